"""Steps that are skipped where gradients are not finite: with dynamic loss scaling, or by wish.

With a loss scale gradients that float16 would round to zero are kept, and Inf is met now and then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from harness.tracing import as_written
from harness.train.step import LOSSES, Batch, Steps

INITIAL = 2.0**15
LOWEST, HIGHEST = 1.0, 2.0**24
GROWS_AFTER = 2000
"""Steps in a row with finite gradients after which the scale is doubled."""
SKIPPED_IN_A_ROW = 100
"""Of ``training.nan: skip``: more is no bad batch but a model that is lost."""


class LossScale:
    """The scale and how it has fared; a part of the checkpoint's plain state.

    Micikevicius et al., 2018: the scale is halved, and the step skipped, where a gradient is not
    finite, and doubled after :data:`GROWS_AFTER` steps without that.  It is always a power of two,
    so float32 gradients are scaled and scaled back without rounding.

    ``scale`` (float32), ``good`` (int64: finite steps since it last changed), ``skipped`` (int64),
    ``row`` (int64: those in a row that were skipped at the lowest scale) and ``stuck`` (int64: the
    step at which these were too many, or -1) are scalar variables, so that many steps run without
    Python.  All replicas see the same summed gradients, and so work out the same scale.

    Args:
        fixed: the scale is 1 and stays so: steps are skipped, and nothing is scaled.
        patience: steps in a row that may be skipped at the lowest scale; with 0 the first of them
            ends the training, which for ``training.nan: rollback`` has to be seen at once.
    """

    def __init__(self, *, fixed: bool = False, patience: int = 0) -> None:
        self.fixed, self.patience = fixed, patience
        self._highest = LOWEST if fixed else HIGHEST
        with tf.device("/CPU:0"):
            first = LOWEST if fixed else INITIAL
            self.scale = tf.Variable(first, dtype=tf.float32, trainable=False)
            self.row = tf.Variable(0, dtype=tf.int64, trainable=False)
            self.good = tf.Variable(0, dtype=tf.int64, trainable=False)
            self.skipped = tf.Variable(0, dtype=tf.int64, trainable=False)
            self.stuck = tf.Variable(-1, dtype=tf.int64, trainable=False)

    def note(self, finite: tf.Tensor, step: tf.Tensor) -> None:
        """Takes note of a step, in a graph.

        Args:
            finite: bool scalar: whether all its gradients were.
            step: int64 scalar.
        """
        scale, good = tf.identity(self.scale), self.good + 1
        grows = tf.logical_and(finite, good >= GROWS_AFTER)
        lost = tf.logical_and(tf.logical_not(finite), scale <= LOWEST)
        larger = tf.minimum(scale * 2.0, self._highest)
        smaller = tf.maximum(scale * 0.5, LOWEST)
        self.scale.assign(tf.where(finite, tf.where(grows, larger, scale), smaller))
        kept = tf.logical_and(finite, tf.logical_not(grows))
        self.good.assign(tf.where(kept, good, tf.zeros_like(good)))
        self.skipped.assign_add(tf.cast(tf.logical_not(finite), tf.int64))
        self.row.assign(tf.where(lost, self.row + 1, tf.zeros_like(good)))
        first = tf.logical_and(self.row > self.patience, self.stuck < 0)
        self.stuck.assign(tf.where(first, step, self.stuck))

    def figures(self) -> dict[str, float]:
        """For the lines of ``metrics.jsonl``: the scale, and steps skipped so far."""
        if self.fixed and not self.patience:
            return {}
        skipped = {"skipped_steps": float(self.skipped.numpy())}
        return skipped if self.fixed else {"loss_scale": float(self.scale.numpy())} | skipped

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint's state."""
        return {
            "scale": float(self.scale.numpy()),
            "good": int(self.good.numpy()),
            "skipped": int(self.skipped.numpy()),
            "row": int(self.row.numpy()),
        }

    def from_json(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`to_json` gave."""
        self.scale.assign(state["scale"])
        self.good.assign(state["good"])
        self.skipped.assign(state["skipped"])
        self.row.assign(state["row"])
        self.stuck.assign(-1)


class ScaledSteps(Steps):
    """Steps whose loss is multiplied by a :class:`LossScale` and whose gradients are divided by it.

    A step whose summed gradients are not finite changes neither weights nor what the optimizer
    keeps of them, nor its count of steps.  The counters of steps go on, and its examples count in
    the metric sums, as their losses are what they are.  Where such steps are skipped by wish
    (:attr:`LossScale.patience`), a loss that is not finite is a reason too, and its examples do not
    count.
    """

    def __init__(self, *arguments: Any, scaling: LossScale) -> None:
        super().__init__(*arguments)
        self._scaling = scaling

    def own_figures(self) -> dict[str, float]:
        return self._scaling.figures()

    def not_finite(self) -> tuple[int, str] | None:
        found, stuck = super().not_finite(), int(self._scaling.stuck.numpy())
        if stuck < 0 or (found is not None and found[0] <= stuck):
            return found
        of_gradients = f"the gradients of step {stuck}"
        if self._scaling.patience:
            row = self._scaling.patience + 1
            of_gradients = f"a loss or gradient in each of {row} steps in a row, the last {stuck}"
        elif not self._scaling.fixed:
            of_gradients += ", which no loss scale makes finite"
        return stuck, of_gradients

    def _step(self, iterator: Iterator[Batch]) -> dict[str, tf.Tensor]:
        distribution = self._distribution
        if self._parts == 1:
            found = distribution.run_each(self._found, next(iterator))
        else:
            self._add_parts(iterator)
            found = distribution.run_each(self._found_added)
        gradients = found[0]
        _, sums, finite = distribution.run(_same, *found)

        # Outside of the replicas: TensorFlow lets them meet (to update mirrored weights) in no
        # branch that they enter by themselves.
        def update() -> tf.Tensor:
            distribution.run(self._update, gradients)
            return finite

        tf.cond(finite, update, lambda: finite)
        self._scaling.note(finite, self.step)
        if not self._scaling.patience:
            return sums
        return {name: tf.where(finite, each, tf.zeros_like(each)) for name, each in sums.items()}

    # On a replica.

    @as_written
    def _found(self, batch: Batch) -> tuple[list[tf.Tensor], dict[str, tf.Tensor], tf.Tensor]:
        return self._judged(self._values(batch, 0))

    @as_written
    def _found_added(self) -> tuple[list[tf.Tensor], dict[str, tf.Tensor], tf.Tensor]:
        return self._judged(self._take_added())

    def _judged(
        self, values: list[tf.Tensor]
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor], tf.Tensor]:
        """Summed gradients in their own size, metric sums, and whether all of them are finite."""
        gradients, sums = self._together(values)
        back = 1.0 / self._scaling.scale
        gradients = [gradient * tf.cast(back, gradient.dtype) for gradient in gradients]
        judged = gradients
        if self._scaling.patience:
            judged = [*gradients, *(sums[name] for name in LOSSES if name in sums)]
        each = [tf.reduce_all(tf.math.is_finite(one)) for one in judged]
        return gradients, sums, tf.reduce_all(tf.stack(each))

    def _scaled(self, loss: tf.Tensor) -> tf.Tensor:
        return loss * self._scaling.scale


@as_written
def _same(*values: Any) -> tuple[Any, ...]:
    return values
