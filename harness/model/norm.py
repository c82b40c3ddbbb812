"""Batch normalisation over the whole global batch, however many replicas share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from harness.errors import SpecError
from harness.tracing import as_written

if TYPE_CHECKING:
    from harness.distribute.base import Distribution


class SyncBatchNorm(tf_keras.layers.Layer):
    """Batch normalisation (Ioffe and Szegedy, 2015) with the moments of the global batch.

    ``tf_keras.layers.BatchNormalization`` takes the moments of one replica's rows, so its results
    hang on how many replicas there are, and its moving averages differ between ranks.  Here the
    sums of all replicas are brought together, over any distribution.  Rows of padding, which
    repeat examples, count as others do.

    Args:
        distribution: brings replicas together.
        momentum, epsilon, center, scale: as in Keras.
    """

    def __init__(
        self,
        distribution: Distribution,
        *,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._distribution = distribution
        self.momentum = momentum
        self.epsilon = epsilon
        self.center, self.scale = center, scale

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = (int(input_shape[-1]),)
        # Every replica works out the same moving averages; one copy is written to all.
        moving = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight("gamma", shape, initializer="ones")
        if self.center:
            self.beta = self.add_weight("beta", shape, initializer="zeros")
        self.moving_mean = self.add_weight("moving_mean", shape, initializer="zeros", **moving)
        self.moving_variance = self.add_weight(
            "moving_variance", shape, initializer="ones", **moving
        )
        super().build(input_shape)

    @as_written
    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float [b, ..., c] in, the same out."""
        x = tf.cast(inputs, tf.float32)
        if training and self.trainable:
            mean, variance = self._moments(x)
        else:
            mean, variance = self.moving_mean, self.moving_variance
        scale = tf.math.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            scale = self.gamma * scale
        # The mean goes first: products of it would lose what is left of the inputs far from zero.
        normed = (x - mean) * scale
        return tf.cast(normed if self.beta is None else normed + self.beta, inputs.dtype)

    def _moments(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and (biased) variance [c] of the global batch; moves the averages."""
        axes = list(range(x.shape.rank - 1))
        # Squares cancel badly far from zero, where the moving mean has yet to go.  So each replica
        # sums around the mean of its own rows, which float64 then takes back.
        shift = tf.stop_gradient(tf.reduce_mean(x, axes))
        away = x - shift
        sums = [tf.reduce_sum(away, axes), tf.reduce_sum(tf.square(away), axes)]
        shift, first, second = (tf.cast(each, tf.float64) for each in (shift, *sums))
        rows = tf.cast(tf.size(x) / tf.shape(x)[-1], tf.float64)
        total, squares = self._distribution.reduce_sum(
            [first + rows * shift, second + shift * (2.0 * first + rows * shift)]
        )
        rows *= self._distribution.replicas
        wide = total / rows
        mean = tf.cast(wide, tf.float32)
        variance = tf.cast(tf.maximum(squares / rows - tf.square(wide), 0.0), tf.float32)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + tf.stop_gradient(value) * (1 - self.momentum))
        return mean, variance

    def get_config(self) -> dict:
        own = ("momentum", "epsilon", "center", "scale")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def check_synchronised(
    model: tf_keras.Model, backbone: tf_keras.layers.Layer, replicas: int, learns: str | None = None
) -> None:
    """Holds that no layer being trained takes its moments from the rows of one replica.

    Args:
        backbone: its norms are in inference mode, unless ``learns``.
        learns: the phase that puts it into training mode; None if none does.

    Raises:
        SpecError: one does, and there are several replicas.
    """
    if replicas == 1:
        return
    inside = {id(layer) for layer in (backbone, *backbone.submodules)}
    norms = [
        layer for layer in model.submodules if isinstance(layer, tf_keras.layers.BatchNormalization)
    ]
    own = [layer.name for layer in norms if layer.trainable and id(layer) not in inside]
    if own:
        raise SpecError(
            "a batch normalisation that each replica does by itself gives results that hang on "
            "their number",
            got=f"{', '.join(own)} with {replicas} replicas",
            allowed="harness.model.norm.SyncBatchNorm(draws.distribution), or one replica",
            action="use it in the head plug-in in the place of tf_keras.layers.BatchNormalization",
            path="head.plugin",
        )
    # Whether it has norms, and how, is inside of it.
    unseen = any(isinstance(each, hub.KerasLayer) for each in (backbone, *backbone.submodules))
    if learns is not None and (unseen or any(id(layer) in inside for layer in norms)):
        raise SpecError(
            "the backbone's batch normalisation would take the moments of one replica's rows, so "
            "results would hang on their number",
            got=f"backbone_mode: training with {replicas} replicas"
            + (", of a SavedModel, whose normalisation is fused inside" if unseen else ""),
            allowed="inference with several replicas, or one replica",
            action="leave backbone_mode out: its weights are trained all the same",
            path=learns,
        )
