"""From the feature maps or sequences of a backbone to one vector for each example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf
import tf_keras

from harness.spec.keras_names import keras_name
from harness.tracing import as_written

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

    @as_written
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """See the class."""
        places = list(range(1, inputs.shape.rank - 1))
        reduce = tf.reduce_max if self._kind == "max" else tf.reduce_mean
        return reduce(inputs, axis=places)


def pool_tokens(kind: str, sequence: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """[b, t, f] to [b, f]: the average or the largest value over the tokens of each text.

    Args:
        kind: ``average`` or ``max``.
        mask: [b, t], 1 of a token and 0 of what only fills a text up; a text without any gives 0.
    """
    counts = tf.cast(mask > 0, sequence.dtype)[:, :, None]
    if kind == "average":
        return tf.math.divide_no_nan(
            tf.reduce_sum(sequence * counts, axis=1), tf.reduce_sum(counts, axis=1)
        )
    largest = tf.reduce_max(tf.where(counts > 0, sequence, sequence.dtype.min), axis=1)
    return tf.where(tf.reduce_any(counts > 0, axis=1), largest, tf.zeros_like(largest))


def pooling_after(spec: Spec) -> str | None:
    """The pooling that comes after the backbone: Keras applications have their own inside, and so
    has an encoder with a preprocessor, which knows where a text ends."""
    inside = keras_name(spec.backbone.handle) is not None or spec.backbone.preprocessor is not None
    return None if inside else spec.head.pooling
