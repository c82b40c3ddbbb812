"""One optimizer step, and many of them in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from harness.distribute.base import Distribution, global_sums
from harness.model.assemble import Assembled
from harness.train.optimizer import learning_rate
from harness.train.plan import Phase

Batch = dict[str, tf.Tensor]


class Steps:
    """The device's side of training: counters, sums, and the function that steps.

    ``step`` and ``phase_step`` (int64 scalars) and the metric sums are variables, so that many
    steps run without Python.  ``first_bad`` is the first step whose loss was not finite, or -1.
    """

    def __init__(
        self,
        model: Assembled,
        optimizer: tf_keras.optimizers.Optimizer,
        distribution: Distribution,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._distribution = distribution
        self._variables = model.trainable()
        with distribution.scope():
            optimizer.build(self._variables)
        with tf.device("/CPU:0"):
            self.step = model.draws.step
            self.phase_step = tf.Variable(0, dtype=tf.int64, trainable=False)
            self.first_bad = tf.Variable(-1, dtype=tf.int64, trainable=False)
            self._sums = {
                name: tf.Variable(zero, trainable=False)
                for name, zero in model.task.sums.zeros().items()
            }

    def compile(self, phase: Phase) -> Any:
        """The ``tf.function`` of ``(iterator, steps)`` that carries out steps of ``phase``."""

        @tf.function(reduce_retracing=True)
        def many(iterator: Iterator[Batch], steps: tf.Tensor) -> None:
            for _ in tf.range(steps):
                self._one(phase, next(iterator))

        return many

    def sums(self) -> dict[str, np.ndarray]:
        """What the metrics gathered since :meth:`set_sums`."""
        return {name: np.array(variable.numpy()) for name, variable in self._sums.items()}

    def set_sums(self, sums: Mapping[str, np.ndarray]) -> None:
        """Begins the metric sums anew, from ``sums``."""
        for name, variable in self._sums.items():
            variable.assign(sums[name])

    def progress(self) -> tuple[float, float]:
        """Sum of the losses and number of examples since :meth:`set_sums`."""
        return float(self._sums["loss_sum"].numpy()), float(self._sums["count"].numpy())

    def set_position(self, step: int, phase_step: int) -> None:
        """Sets the counters, at a restore and at the beginning of a phase."""
        self.step.assign(step)
        self.phase_step.assign(phase_step)

    def _one(self, phase: Phase, batch: Batch) -> None:
        self._optimizer.learning_rate.assign(learning_rate(phase, self.phase_step))
        sums = self._distribution.run(self._on_replica, batch)
        for name, variable in self._sums.items():
            variable.assign_add(sums[name])
        bad = tf.logical_not(tf.math.is_finite(sums["loss_sum"]))
        first = tf.logical_and(bad, self.first_bad < 0)
        self.first_bad.assign(tf.where(first, self.step, self.first_bad))
        self.step.assign_add(1)
        self.phase_step.assign_add(1)

    def _on_replica(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Gradients of this replica's rows, summed over all replicas, and the update."""
        task, label = self._model.task, batch["label"]
        mask, weight = batch["mask"], batch["weight"]
        # Divided by the examples of the *global* batch, so that summing the replicas' gradients
        # gives the gradient of the mean whatever the split, and an empty replica divides by
        # none of its own.
        (count,) = self._distribution.reduce_sum([tf.reduce_sum(mask)])
        # Only the variables being trained are watched: a frozen backbone costs no backward pass.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._variables)
            logits = self._model.keras(batch["image"], training=True)
            losses = task.losses(label, logits, training=True)
            loss = tf.reduce_sum(mask * weight * losses) / tf.maximum(count, 1.0)
            penalties = self._model.keras.losses
            if penalties:
                loss += tf.add_n(penalties) / self._distribution.replicas
        gradients = tape.gradient(
            loss, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradients = self._distribution.reduce_sum(gradients)
        self._optimizer.apply_gradients(
            zip(gradients, self._variables, strict=True), skip_gradients_aggregation=True
        )
        return global_sums(
            self._distribution, task.sums.update(label, logits, losses, mask, weight)
        )
