"""From the feature maps or sequences of a backbone to one vector for each example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf
import tf_keras

from harness.spec.keras_names import keras_name

if TYPE_CHECKING:
    from harness.spec import Spec


class Pooling(tf_keras.layers.Layer):
    """[b, ..., f] to [b, f]: the average or the largest value over all places of an example.

    Args:
        kind: ``average`` or ``max``.
    """

    def __init__(self, kind: str, **options: object) -> None:
        super().__init__(**options)
        self._kind = kind

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """See the class."""
        places = list(range(1, inputs.shape.rank - 1))
        reduce = tf.reduce_max if self._kind == "max" else tf.reduce_mean
        return reduce(inputs, axis=places)


def pooling_after(spec: Spec) -> str | None:
    """The pooling that comes after the backbone: Keras applications have their own inside."""
    return None if keras_name(spec.backbone.handle) is not None else spec.head.pooling
