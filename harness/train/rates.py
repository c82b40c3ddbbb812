"""What the rates of the schedule are multiplied by, and the figure that says it."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from harness.train.best import value_of
from harness.train.optimizer import learning_rate
from harness.train.parts import Parts
from harness.train.plan import Phase
from harness.train.step import Steps


class Rates:
    """The learning rates of a run's steps."""

    def __init__(self, parts: Parts, steps: Steps) -> None:
        self._parts, self._steps = parts, steps

    @property
    def scale(self) -> float:
        """What a plateau and going back have made of the whole rate."""
        plateau = self._parts.plateau
        return self._parts.rollbacks.scale * (1.0 if plateau is None else plateau.scale)

    def enter(self) -> None:
        """A phase begins or goes on."""
        self._steps.set_rate_scale(self.scale)

    def lower_if_due(self, figures: Mapping[str, float], step: int) -> None:
        """Takes note of a validation."""
        plateau = self._parts.plateau
        if plateau is None:
            return
        watched = value_of(figures, (metric := plateau.best.metric), "training.schedule.metric")
        if plateau.update(watched, step):
            self._steps.set_rate_scale(self.scale)
            self._parts.watch.say(
                f"{metric} got no better: rates are {self.scale:g} of the phase's now"
            )

    def figures(self, phase: Phase, phase_step: int) -> dict[str, float]:
        """For a line of metrics: that of the step just done, the last of ``phase_step``."""
        # Worked out anew: a resumed process has not set the optimizer's.
        rate = learning_rate(phase, tf.constant(phase_step - 1))
        own = {**self._steps.own_figures(), **self._parts.rollbacks.figures()}
        return {"learning_rate": float(rate * self.scale), **own}
