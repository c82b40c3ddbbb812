"""One optimizer step, and many of them in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from harness.data.content import examples_in
from harness.distribute.base import Distribution
from harness.distribute.loops import repeat
from harness.model.adaptation.alignment import LOSS as ADAPTATION_LOSS
from harness.model.assemble import Assembled
from harness.model.task import Task
from harness.tracing import as_written
from harness.train.optimizer import learning_rate
from harness.train.plan import Phase

Batch = dict[str, tf.Tensor]
LOSSES = ("loss_sum", ADAPTATION_LOSS)
"""Sums of losses: the second where there is an adaptation."""


class Steps:
    """The device's side of training: counters, sums, and the function that steps.

    ``step`` and ``phase_step`` (int64 scalars) and the metric sums are variables, so that many
    steps run without Python.  ``first_bad`` is the first step whose loss was not finite, or -1.

    Args:
        examples: of one update, over all replicas, where a phase does not say it.
        accumulate: parts in which a replica computes its rows of them, one after the other.
    """

    def __init__(
        self,
        model: Assembled,
        optimizer: tf_keras.optimizers.Optimizer,
        distribution: Distribution,
        examples: int,
        accumulate: int = 1,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._distribution = distribution
        self._examples = float(examples)
        self._parts = model.draws.parts = accumulate
        self._variables: list[tf.Variable] = []
        self._phase_steps = 1
        self._added: list[tf.Variable] = []
        zeros = self.zeros()
        with distribution.scope():
            # Of all phases: an optimizer of Keras is built once.
            optimizer.build(model.trainable())
        with tf.device("/CPU:0"):
            self.step = model.draws.step
            self.phase_step = tf.Variable(0, dtype=tf.int64, trainable=False)
            self._rate_scale = tf.Variable(1.0, trainable=False)
            self.first_bad = tf.Variable(-1, dtype=tf.int64, trainable=False)
            self._sums = {name: tf.Variable(zero, trainable=False) for name, zero in zeros.items()}

    def zeros(self) -> dict[str, np.ndarray]:
        """The metric sums before the first batch: the task's and those of an adaptation."""
        alignment = self._model.alignment
        own = alignment.sums if alignment is not None else ()
        return {**self._model.task.sums.zeros(), **{name: np.zeros((), np.float64) for name in own}}

    def figures(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The figures of such sums."""
        alignment, found = self._model.alignment, self._model.task.sums.result(sums)
        return found if alignment is None else found | alignment.figures(sums)

    def _accumulators(self) -> list[tf.Variable]:
        """Room for the gradients and sums of the parts of a step, on each replica its own."""
        own = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.SUM,
        }
        return [
            *(tf.Variable(tf.zeros(v.shape, v.dtype), **own) for v in self._variables),
            *(tf.Variable(tf.constant(zero), **own) for zero in self.zeros().values()),
        ]

    def compile(self, phase: Phase) -> Any:
        """The ``tf.function`` of ``(iterator, steps)`` that carries out steps of ``phase``.

        It trains what the phase trains, and no other phase's function is called after it.
        """
        self._model.enter(phase.index)
        self._variables = self._model.trainable(phase.index)
        self._phase_steps = phase.steps
        if phase.batch_size is not None:
            self._examples = float(phase.batch_size * self._parts)
        with self._distribution.scope():
            self._added = self._accumulators() if self._parts > 1 else []

        @tf.function(reduce_retracing=True)
        @as_written
        def many(iterator: Iterator[Batch], steps: tf.Tensor) -> None:
            def one(_: tf.Tensor) -> None:
                rate = learning_rate(phase, self.phase_step) * self._rate_scale
                self._optimizer.learning_rate.assign(rate)
                self._take_note(self._step(iterator))

            repeat(steps, one)

        return many

    def own_figures(self) -> dict[str, float]:
        """What these steps have to say of themselves beside the metrics."""
        return {}

    def not_finite(self) -> tuple[int, str] | None:
        """At which step, and where, a value was not finite that ends the training; None: at
        none."""
        bad = int(self.first_bad.numpy())
        return None if bad < 0 else (bad, f"the loss of step {bad}")

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
        self.first_bad.assign(-1)

    def set_rate_scale(self, scale: float) -> None:
        """Multiplies the learning rates of all steps from now on."""
        self._rate_scale.assign(scale)

    def _step(self, iterator: Iterator[Batch]) -> dict[str, tf.Tensor]:
        """One step of all replicas; what it adds to the metric sums."""
        if self._parts == 1:
            return self._distribution.run(self._whole, next(iterator))
        self._add_parts(iterator)
        return self._distribution.run(self._apply_added)

    def _add_parts(self, iterator: Iterator[Batch]) -> None:
        repeat(self._parts, lambda part: self._distribution.run(self._add, next(iterator), part))

    def _take_note(self, sums: Mapping[str, tf.Tensor]) -> None:
        for name, variable in self._sums.items():
            variable.assign_add(sums[name])
        losses = [sums[name] for name in LOSSES if name in sums]
        bad = tf.logical_not(tf.math.is_finite(tf.add_n(losses)))
        first = tf.logical_and(bad, self.first_bad < 0)
        self.first_bad.assign(tf.where(first, self.step, self.first_bad))
        self.step.assign_add(1)
        self.phase_step.assign_add(1)

    # On a replica.

    @as_written
    def _whole(self, batch: Batch) -> dict[str, tf.Tensor]:
        """A step on one batch."""
        return self._apply(self._values(batch, 0))

    @as_written
    def _add(self, batch: Batch, part: tf.Tensor) -> None:
        """A part of a step: its gradients and sums are kept."""
        for kept, value in zip(self._added, self._values(batch, part), strict=True):
            kept.assign_add(value)

    @as_written
    def _apply_added(self) -> dict[str, tf.Tensor]:
        """The end of a step whose parts were added up."""
        return self._apply(self._take_added())

    def _take_added(self) -> list[tf.Tensor]:
        """What the parts of a step have added up, which is gone afterwards."""
        values = [tf.convert_to_tensor(kept) for kept in self._added]
        for kept in self._added:
            kept.assign(tf.zeros_like(kept))
        return values

    def _values(self, batch: Batch, part: int | tf.Tensor) -> list[tf.Tensor]:
        """Gradients of this replica's rows, and what they add to the metric sums."""
        task, mask, alignment = self._model.task, batch["mask"], self._model.alignment
        beside: dict[str, tf.Tensor] = {}
        self._model.draws.part = part
        # Only the variables being trained are watched: a frozen backbone costs no backward pass.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._variables)
            if alignment is None:
                model = self._model.called_on(batch)
                logits = model(examples_in(batch), training=True)
            else:
                model = self._model.keras
                logits, features = alignment.both(batch)
            # A tensor of the loop in the graph, which who calls the model later must not meet.
            self._model.draws.part = 0
            losses, weight = _losses(task, batch, logits)
            # The mean is over the examples that the global batch has without its padding, which
            # only the sum over all replicas tells.  Until then a full batch stands for it.
            loss = tf.reduce_sum(mask * weight * losses) / self._examples
            penalties = model.losses
            if penalties:
                # Each replica's share: all of them together make the whole penalty.
                loss += tf.add_n(penalties) * tf.reduce_sum(mask) / self._examples
            if alignment is not None:
                done = tf.cast(self.phase_step, tf.float32) / float(self._phase_steps)
                terms = alignment.terms(features, batch, done)
                # It is a mean already, which the division by the number of examples must not touch.
                loss += terms.loss * terms.count / self._examples
                beside = terms.sums
            loss = self._scaled(loss)
        gradients = tape.gradient(
            loss, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        sums = task.sums.update(batch["label"], logits, losses, mask, weight) | beside
        whole = map(whole_gradient, gradients, self._variables)
        return [*whole, *(sums[name] for name in self._sums)]

    def _scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """What is differentiated in the place of the loss."""
        return loss

    def _apply(self, values: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Brings all replicas together and updates the weights."""
        gradients, sums = self._together(values)
        self._update(gradients)
        return sums

    def _together(self, values: list[tf.Tensor]) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """Gradients of the mean loss, and metric sums, of all replicas, in one go."""
        values = self._distribution.reduce_sum(values)
        sums = dict(zip(self._sums, values[len(self._variables) :], strict=True))
        # An empty replica divides by none of its own, and an empty batch changes nothing.
        count = tf.maximum(tf.cast(sums["count"], tf.float32), 1.0)
        gradients = [
            gradient * tf.cast(self._examples / count, gradient.dtype)
            for gradient in values[: len(self._variables)]
        ]
        return gradients, sums

    @as_written
    def _update(self, gradients: list[tf.Tensor]) -> None:
        self._optimizer.apply_gradients(
            zip(gradients, self._variables, strict=True), skip_gradients_aggregation=True
        )


def whole_gradient(gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> tf.Tensor:
    """Of a table of which rows were looked up too, as of the words of an encoder: its gradient is
    of these rows, and made whole it does not say how many the table has."""
    whole = tf.convert_to_tensor(gradient)
    whole.set_shape(variable.shape)
    return whole


def _losses(task: Task, batch: Batch, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of each row its loss and its weight, both float32 [b].

    Where examples are mixed, the product is that of both, by their shares: for a loss that is
    linear in the target, as cross-entropy is, it is the loss of the mixed target (Zhang et al.,
    2018).  The label that metrics count is the row's own, which has the larger share.
    """
    losses, weight = task.losses(batch["label"], logits, training=True), batch["weight"]
    if "share" not in batch:
        return losses, weight
    share = batch["share"]
    others = task.losses(batch["partner_label"], logits, training=True)
    own, other = share * weight, (1.0 - share) * batch["partner_weight"]
    together = own + other
    return tf.math.divide_no_nan(own * losses + other * others, together), together
