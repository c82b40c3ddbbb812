"""Keeps the end of a model in full precision where TensorFlow rewrites the rest to 16 bits.

Its rewriters take every float32 product of matrices, and what lies between two of them: of a
regression the loss as well, which lies between the last forward and the first backward product.
A Keras dtype says nothing to them, and a function of its own is rewritten when it is first called
(measured).  Float64 they leave alone, and do not reach through.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from harness.tracing import as_written


class _Guarded(tf_keras.layers.Layer):
    guarded = False
    """Whether graphs that are made from now on are guarded."""


class LastDense(_Guarded, tf_keras.layers.Dense):
    """A linear layer that, guarded, multiplies in float64; float32 in and out."""

    @as_written
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if not self.guarded:
            return super().call(inputs)
        wide, kernel, bias = (
            tf.cast(each, tf.float64) for each in (inputs, self.kernel, self.bias)
        )
        return tf.cast(tf.matmul(wide, kernel) + bias, tf.float32)


class Barrier(_Guarded):
    """Hands on what it gets; guarded, nothing after it is rewritten for what comes before it."""

    @as_written
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if not self.guarded:
            return inputs
        return tf.cast(tf.cast(inputs, tf.float64), inputs.dtype)


def guard(model: tf_keras.Model) -> None:
    """Guards the layers of ``model`` that can be, in the graphs that are made from now on."""
    for layer in model.submodules:
        if isinstance(layer, _Guarded):
            layer.guarded = True
