"""The Keras applications that ``keras:NAME`` may name, and the pixels that each was trained on."""

from __future__ import annotations

_NAMES = {
    "symmetric": "InceptionResNetV2 InceptionV3 MobileNet MobileNetV2 NASNetLarge NASNetMobile "
    "ResNet101V2 ResNet152V2 ResNet50V2 Xception",
    "caffe": "ResNet101 ResNet152 ResNet50 VGG16 VGG19",
    "imagenet": "DenseNet121 DenseNet169 DenseNet201",
    # These prepare their pictures themselves.
    "bytes": "ConvNeXtBase ConvNeXtLarge ConvNeXtSmall ConvNeXtTiny ConvNeXtXLarge EfficientNetB0 "
    "EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 EfficientNetB6 "
    "EfficientNetB7 EfficientNetV2B0 EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 "
    "EfficientNetV2L EfficientNetV2M EfficientNetV2S MobileNetV3Large MobileNetV3Small RegNetX002 "
    "RegNetX004 RegNetX006 RegNetX008 RegNetX016 RegNetX032 RegNetX040 RegNetX064 RegNetX080 "
    "RegNetX120 RegNetX160 RegNetX320 RegNetY002 RegNetY004 RegNetY006 RegNetY008 RegNetY016 "
    "RegNetY032 RegNetY040 RegNetY064 RegNetY080 RegNetY120 RegNetY160 RegNetY320 ResNetRS101 "
    "ResNetRS152 ResNetRS200 ResNetRS270 ResNetRS350 ResNetRS420 ResNetRS50",
}
PIXELS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
"""``backbone.pixels`` by name."""
SCHEME = "keras:"


def keras_name(handle: str) -> str | None:
    """NAME of ``keras:NAME``; None of another handle."""
    return handle.removeprefix(SCHEME) if handle.startswith(SCHEME) else None
