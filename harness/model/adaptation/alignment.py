"""Losses that make the features of the target like those of the source, beside the task's loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
import tf_keras

from harness.data.content import examples_in
from harness.model.adaptation.distances import coral, mmd
from harness.model.draws import Draws
from harness.model.pooling import pooling_after

if TYPE_CHECKING:
    from harness.distribute.base import Distribution
    from harness.spec import Spec

LOSS, STEPS = "adaptation/loss", "adaptation/steps"
_HITS = ("adaptation/source_hits", "adaptation/target_hits")
_COUNTS = ("adaptation/source_count", "adaptation/target_count")
FIGURES = ("adaptation_loss", "domain_accuracy")
"""Names of all figures that an adaptation may have."""
UNITS = 100
"""Of the hidden layer of the domain classifier, as Ganin et al. have it for pictures of digits."""
_STEEPNESS = 10.0


class Terms(NamedTuple):
    """What a step gets of an alignment, on one replica.

    Attributes:
        loss: float32 scalar; the sum over all replicas is the loss.
        count: float32 scalar: source examples of the global batch, at least 1.
        sums: by the names of :attr:`Alignment.sums`, what this replica adds to them.
    """

    loss: tf.Tensor
    count: tf.Tensor
    sums: dict[str, tf.Tensor]


class Alignment(Protocol):
    """A loss on the features of a batch of the source and one of the target."""

    variables: Sequence[tf.Variable]
    """Its own, which are trained with the model and are no part of it."""
    sums: Sequence[str]
    """Names of its metric sums, scalars all."""

    def both(self, batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """A batch with ``target`` in it -> logits [b, outputs] of the source's rows, and features
        [2 b, d] of the source's rows and then the target's."""
        ...

    def terms(
        self, features: tf.Tensor, batch: Mapping[str, tf.Tensor], progress: tf.Tensor
    ) -> Terms:
        """The loss of the features that :meth:`both` gave.

        Args:
            progress: float32 scalar, the part of the phase that is done, from 0 to 1.
        """
        ...

    def figures(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Figures of sums; none where no step was done."""
        ...


class _TwoStreams(Alignment):
    """One pass of the model over the rows of both domains.

    In one pass a batch normalisation in training mode goes by the moments of both together, which
    its moving averages then stand for.
    """

    variables: Sequence[tf.Variable] = ()
    sums: Sequence[str] = (LOSS, STEPS)

    def __init__(self, model: tf_keras.Model, features: tf.Tensor, draws: Draws) -> None:
        self._keras = tf_keras.Model(model.inputs, [model.output, features])
        # For good: the replicas of a process are traced in turns, as far as their next reduction.
        draws.streams = 2
        self._draws = draws

    def both(self, batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """See the protocol."""
        rows = tf.shape(batch["mask"])[0]  # a strategy of several workers knows no static one
        examples = tf.concat([examples_in(dict(batch)), batch["target"]], 0)
        logits, features = self._keras(examples, training=True)
        # What the loss does must not depend on what the model computes in.
        return logits[:rows], tf.cast(features, tf.float32)

    def figures(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """See the protocol."""
        steps = float(sums[STEPS])
        return {"adaptation_loss": float(sums[LOSS]) / steps} if steps else {}


class Matching(_TwoStreams):
    """A distance of the features of the whole global batch, over all replicas.

    Args:
        model, features: the model, and the tensor in it that is to be alike in both domains.
        distance: ``(source, target, source_mask, target_mask)`` to a scalar.
        weight: of the distance beside the task's loss.
    """

    def __init__(
        self,
        model: tf_keras.Model,
        features: tf.Tensor,
        draws: Draws,
        distance: Callable[..., tf.Tensor],
        weight: float,
    ) -> None:
        super().__init__(model, features, draws)
        self._distance, self._weight = distance, weight

    def terms(
        self, features: tf.Tensor, batch: Mapping[str, tf.Tensor], progress: tf.Tensor
    ) -> Terms:
        """See the protocol."""
        distribution = self._draws.distribution
        given = [*tf.split(features, 2), batch["mask"], batch["target_mask"]]
        source, target, *masks = gathered(distribution, given)
        distance = self._distance(source, target, *masks)
        # All replicas work out the same, of which each has its share.
        share = distance / distribution.replicas
        sums = {LOSS: share, STEPS: tf.constant(1.0) / distribution.replicas}
        count = tf.maximum(tf.reduce_sum(masks[0]), 1.0)
        return Terms(self._weight * share, count, _wide(sums))


class Adversarial(_TwoStreams):
    """Features that a classifier cannot tell the domains by (Ganin et al., 2016: DANN).

    The classifier, a hidden layer of :data:`UNITS` and a logit, learns at the rate of the head.
    The features get its gradient reversed, times ``weight * (2 / (1 + exp(-10 p)) - 1)`` with the
    progress ``p`` of the phase: the paper's schedule, which lets the classifier learn first.

    Args:
        model, features: the model, and the tensor in it that is to be alike in both domains.
        weight: of the reversed gradient at the end of the schedule.
        seed: of the classifier's initial weights.
    """

    sums = (LOSS, STEPS, *_HITS, *_COUNTS)

    def __init__(
        self, model: tf_keras.Model, features: tf.Tensor, draws: Draws, weight: float, seed: int
    ) -> None:
        super().__init__(model, features, draws)
        self._weight = weight
        glorot = tf_keras.initializers.GlorotUniform
        layers = [
            tf_keras.layers.Dense(
                UNITS,
                "relu",
                kernel_initializer=glorot(seed=seed),
                name="domain_dense",
                dtype="float32",
            ),
            tf_keras.layers.Dense(
                1, kernel_initializer=glorot(seed=seed + 1), name="domain_output", dtype="float32"
            ),
        ]
        given = tf_keras.Input(features.shape[1:])
        self._classify = tf_keras.Model(given, layers[1](layers[0](given)), name="domain")
        self.variables = list(self._classify.trainable_variables)

    def terms(
        self, features: tf.Tensor, batch: Mapping[str, tf.Tensor], progress: tf.Tensor
    ) -> Terms:
        """See the protocol."""
        distribution = self._draws.distribution
        masks = [batch["mask"], batch["target_mask"]]
        counts = distribution.reduce_sum([tf.reduce_sum(mask) for mask in masks])
        strength = self._weight * (2.0 / (1.0 + tf.exp(-_STEEPNESS * progress)) - 1.0)
        logits = self._classify(reversed_gradient(features, strength))
        each = tf.split(logits[:, 0], 2)
        truth = (tf.zeros_like(each[0]), tf.ones_like(each[1]))
        parts, hits = [], []
        for mask, count, logit, domain in zip(masks, counts, each, truth, strict=True):
            losses = tf.nn.sigmoid_cross_entropy_with_logits(domain, logit)
            parts.append(tf.math.divide_no_nan(tf.reduce_sum(mask * losses), count))
            hit = tf.cast(tf.equal(logit > 0.0, domain > 0.5), tf.float32)
            hits.append(tf.reduce_sum(mask * hit))
        there = tf.cast(tf.minimum(counts[0], counts[1]) > 0.0, tf.float32)
        # The mean of both domains, of whatever size their batches are.
        loss = 0.5 * (parts[0] + parts[1]) * there
        sums = {LOSS: loss, STEPS: there / distribution.replicas}
        sums |= zip(_HITS, hits, strict=True)
        sums |= zip(_COUNTS, (tf.reduce_sum(mask) for mask in masks), strict=True)
        return Terms(loss, tf.maximum(counts[0], 1.0), _wide(sums))

    def figures(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """See the protocol; ``domain_accuracy`` is the mean of both domains': 0.5 is by chance."""
        found = super().figures(sums)
        counts = [float(sums[name]) for name in _COUNTS]
        if found and min(counts) > 0:
            shares = [float(sums[hit]) / n for hit, n in zip(_HITS, counts, strict=True)]
            found["domain_accuracy"] = sum(shares) / 2
        return found


def make_alignment(spec: Spec, model: tf_keras.Model, draws: Draws) -> Alignment | None:
    """What ``adaptation`` of a spec adds to the loss; None where that is nothing.

    It acts on what the last hidden layer of the head gives, or on the backbone's features where
    there is none.
    """
    wanted = spec.adaptation
    if wanted is None or not spec.trains_on_target:
        return None
    features = features_of(spec, model)
    if wanted.method == "dann":
        return Adversarial(model, features, draws, wanted.weight, spec.training.seed & 0x7FFFFFFF)
    distance = coral if wanted.method == "coral" else mmd
    return Matching(model, features, draws, distance, wanted.weight)


def features_of(spec: Spec, model: tf_keras.Model) -> tf.Tensor:
    """The tensor of the model that is to be alike in both domains, before any dropout on it."""
    head = spec.head
    if head.plugin is not None or not head.hidden:
        pooled = pooling_after(spec) is not None
        return model.get_layer("pooling" if pooled else "backbone").output
    kind = "activation" if head.batch_norm else "dense"
    return model.get_layer(f"head_{kind}_{len(head.hidden) - 1}").output


@tf.custom_gradient
def reversed_gradient(features: tf.Tensor, strength: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """The same features, whose gradient is turned round and multiplied by ``strength``."""

    def back(gradient: tf.Tensor) -> tuple[tf.Tensor, None]:
        return -strength * gradient, None

    return tf.identity(features), back


def gathered(distribution: Distribution, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Tensors [b, ...] of all replicas, one after the other, [replicas * b, ...]; differentiable.

    Sums with zeros are exact, so every replica gets the bits that one device has.
    """
    replicas = distribution.replicas
    if replicas == 1:
        return list(tensors)
    mine = tf.one_hot(distribution.replica(), replicas)
    placed = [tf.tensordot(mine, tensor, axes=0) for tensor in tensors]
    return [
        tf.reshape(whole, [-1, *tensor.shape[1:]])
        for whole, tensor in zip(distribution.reduce_sum(placed), tensors, strict=True)
    ]


def _wide(sums: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """As metric sums are: a float32 count is exact to 2**24 only."""
    return {name: tf.cast(tf.stop_gradient(value), tf.float64) for name, value in sums.items()}
