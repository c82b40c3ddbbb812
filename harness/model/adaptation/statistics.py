"""Batch-norm statistics of another domain (Li et al., 2016: AdaBN)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from harness.distribute.base import Distribution
from harness.distribute.single import SingleDevice
from harness.distribute.together import assign_here, copies_of
from harness.errors import SpecError
from harness.model.adaptation.fused import Call, Fused
from harness.model.norm import SyncBatchNorm
from harness.tracing import as_written

_PROBES = 4


def norms_of(model: tf_keras.layers.Layer) -> list[tf_keras.layers.Layer]:
    """The batch normalisations of a model, wherever in it they are."""
    kinds = (tf_keras.layers.BatchNormalization, SyncBatchNorm)
    return [layer for layer in model.submodules if isinstance(layer, kinds)]


def check_norms(model: tf_keras.Model, fused: Fused, takes: tf.TensorSpec, replicas: int) -> None:
    """Holds that there are statistics to adapt; of a SavedModel by a look at how they move.

    Args:
        takes: one example as ``model`` takes it.

    Raises:
        SpecError: the model has no batch normalisation that can be adapted, or one inside of a
            SavedModel and several replicas.
        DataError: see :meth:`Fused.find`.
    """
    if fused.perhaps and replicas > 1:
        raise SpecError(
            "adabn finds the statistics inside of a SavedModel on one replica only",
            got=f"{replicas} replicas",
            allowed="one replica, or a backbone keras:NAME",
            action="train on one device, or use method: coral, mmd or dann",
            path="adaptation.method",
        )
    if takes.dtype != tf.string:
        low, high = (0, 255) if takes.dtype == tf.uint8 else (-1, 1)
        drawn = tf.random.stateless_uniform([_PROBES, *takes.shape], (1, 2), low, high)
        with fused.moving():
            fused.find(_caller(model, SingleDevice()), tf.cast(drawn, takes.dtype))
    if norms_of(model) or fused.variables:
        return
    raise SpecError(
        "adabn gives batch normalisations new statistics, and the model has none that can be seen",
        got="no batch normalisation of Keras, and no statistics that a training mode of the "
        "backbone moves",
        allowed="a backbone with such, or head: {hidden: [256], batch_norm: true}",
        action="use one of these, or method: coral, mmd or dann",
        path="adaptation.method",
    )


def estimate(
    model: tf_keras.Model,
    batches: Iterable[tf.Tensor],
    distribution: Distribution,
    fused: Fused | None = None,
) -> list[tf.Variable]:
    """Gives the batch normalisations of ``model`` the mean and variance of these examples.

    Each batch passes through the model in inference mode, but for its batch normalisations, which
    go by the moments of the batch; those of all batches together (the law of total variance) are
    what they have afterwards.  No weight changes, and no dropout is active but that inside of a
    SavedModel.  Every rank and every replica is given the same batches, so that all have the same
    statistics.

    Args:
        batches: examples [b, ...] as the model takes them, without padding; b may vary.
        fused: those inside of a SavedModel, of one replica.  They get the mean of their batches'
            moments, as nothing says which of them is the variance of which mean.

    Returns:
        The variables that were given other values.

    Raises:
        ValueError: there is no batch.
        DataError: see :meth:`Fused.find`.
    """
    norms = norms_of(model)
    totals, begun = _Totals([(each.moving_mean, each.moving_variance) for each in norms]), False
    with _by_batch(norms), fused.moving() if fused is not None else nullcontext():
        one = _caller(model, distribution)
        for examples in batches:
            if fused is not None and not begun:
                fused.find(one, examples)
                begun = True
            if fused is not None and fused.variables:
                totals.add(int(examples.shape[0]), fused.moments(one, examples))
            else:
                one(examples)
                totals.add(int(examples.shape[0]), [])
    changed = totals.assign(fused.variables if fused is not None else ())
    distribution.broadcast(changed)
    return changed


class _Totals:
    """Moments of batches, added up by their numbers of rows.

    Args:
        moving: means and variances of the normalisations that can be seen.
    """

    def __init__(self, moving: Sequence[tuple[tf.Variable, tf.Variable]]) -> None:
        self._moving = moving
        self._rows = 0
        self._sums = [(np.zeros(mean.shape), np.zeros(mean.shape)) for mean, _ in moving]
        self._within: list[np.ndarray] = []

    def add(self, rows: int, within: Sequence[np.ndarray]) -> None:
        """A batch has passed; ``within`` are the moments inside of a SavedModel."""
        self._rows += rows
        for pair, (first, second) in zip(self._moving, self._sums, strict=True):
            mean, variance = (np.asarray(copies_of(v)[0].numpy(), np.float64) for v in pair)
            first += rows * mean
            second += rows * (variance + mean**2)
        known = self._within or [np.zeros(value.shape) for value in within]
        self._within = [total + rows * value for total, value in zip(known, within, strict=True)]

    def assign(self, fused: Sequence[tf.Variable]) -> list[tf.Variable]:
        """Gives the moments of all batches to the normalisations, and to ``fused``; all these."""
        if not self._rows:
            raise ValueError("statistics need a batch")
        for pair, (first, second) in zip(self._moving, self._sums, strict=True):
            mean = first / self._rows
            variance = np.maximum(second / self._rows - mean**2, 0.0)
            for variable, value in zip(pair, (mean, variance), strict=True):
                assign_here(variable, value.astype(np.float32))
        for variable, total in zip(fused, self._within, strict=True):
            assign_here(variable, (total / self._rows).astype(np.float32))
        return [*(variable for pair in self._moving for variable in pair), *fused]


def _caller(model: tf_keras.Model, distribution: Distribution) -> Call:
    @tf.function(reduce_retracing=True)
    @as_written
    def one(examples: tf.Tensor) -> None:
        distribution.run(as_written(lambda given: model(given, training=False)), examples)

    return one


@contextmanager
def _by_batch(norms: list[tf_keras.layers.Layer]) -> Iterator[None]:
    """Has these layers go by the moments of each batch, whatever mode the model is called in, and
    keep them as they are: with momentum 0 the moving statistics are those of the last batch."""
    kept = [(layer, layer.momentum, layer.trainable) for layer in norms]
    for layer in norms:
        layer.momentum, layer.trainable = 0.0, True
        layer.call = _in_training(layer)
    try:
        yield
    finally:
        for layer, momentum, trainable in kept:
            del layer.call
            layer.momentum, layer.trainable = momentum, trainable


def _in_training(layer: tf_keras.layers.Layer) -> Any:
    call = type(layer).call

    def called(inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        return call(layer, inputs, training=True)

    return called
