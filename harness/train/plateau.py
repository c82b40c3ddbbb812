"""A learning rate that falls where a metric no longer gets better.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.train.best import Best


class Plateau:
    """Counts validations without improvement, and lowers the rate each time they are too many.

    As Keras' ``ReduceLROnPlateau`` without a cooldown; each phase begins with its whole rate.

    Args:
        best: its own tracker of the metric.
        patience: validations without improvement after which the rate is lowered.
        factor: what it is multiplied by then.
    """

    def __init__(self, best: Best, patience: int, factor: float) -> None:
        self.best, self.patience, self.factor = best, patience, factor
        self.scale = 1.0
        """What the rate of the phase is multiplied by now."""
        self._waited = 0

    def update(self, value: float, step: int) -> bool:
        """Takes note of one validation; True when it lowered the rate."""
        if self.best.update(value, step):
            self._waited = 0
            return False
        self._waited += 1
        if self._waited < self.patience:
            return False
        self._waited = 0
        self.scale *= self.factor
        return True

    def restart(self) -> None:
        """A new phase begins."""
        self.scale, self._waited = 1.0, 0
        self.best.value = self.best.step = None

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint's state."""
        return {"best": self.best.to_json(), "waited": self._waited, "scale": self.scale}

    def from_json(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`to_json` gave."""
        self.best.from_json(state["best"])
        self._waited, self.scale = state["waited"], state["scale"]
