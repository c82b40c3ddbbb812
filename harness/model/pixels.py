"""The range and the order of channels in which a backbone wants its pixels.

A backbone was trained on pixels of one kind and gives nonsense on others, without an error.  The
formulas are those of ``keras.applications.imagenet_utils.preprocess_input`` (its modes ``tf``,
``torch`` and ``caffe``) and the convention of TensorFlow Hub (0..1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf
import tf_keras

from harness.spec.keras_names import PIXELS, keras_name
from harness.tracing import as_written

if TYPE_CHECKING:
    from harness.model.backbone import Backbone
    from harness.spec import Spec

UNIT = "unit"
"""0..1, what modules of TensorFlow Hub take."""

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue in 0..1."""
_CAFFE_MEAN = (103.939, 116.779, 123.68)
"""Of ImageNet's blue, green and red in 0..255."""


class Pixels(tf_keras.layers.Layer):
    """uint8 [..., 3] to float32 as a backbone wants it.

    It is a part of the model, so training, validation, prediction and the export cannot differ, and
    a device is sent a quarter of the bytes.

    Args:
        kind: a value of ``backbone.pixels``.
    """

    def __init__(self, kind: str, **options: object) -> None:
        super().__init__(**options)
        self._kind = kind

    @as_written
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """See the class."""
        pixels = tf.cast(inputs, tf.float32)
        if self._kind == "bytes":
            return pixels
        if self._kind == "symmetric":
            return pixels / 127.5 - 1.0
        if self._kind == "imagenet":
            return (pixels / 255.0 - tf.constant(_MEAN)) / tf.constant(_DEVIATION)
        if self._kind == "caffe":
            return pixels[..., ::-1] - tf.constant(_CAFFE_MEAN)
        return pixels / 255.0


def pixels_of(spec: Spec, backbone: Backbone) -> str:
    """The kind of pixels that the backbone of pictures is given, see ``backbone.pixels``.

    Args:
        backbone: what the spec names, loaded; that of an earlier run says what it was given there.
    """
    known = PIXELS.get(keras_name(spec.backbone.handle) or "", UNIT)
    return spec.backbone.pixels or backbone.pixels or known
