"""Which validation was the best, and when patience has run out.  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.errors import SpecError

_LOWER_IS_BETTER = ("loss", "error", "mae", "mse", "rmse")


def mode_of(metric: str, mode: str) -> str:
    """``min`` or ``max``; ``auto`` takes ``min`` for losses and errors, as Keras does."""
    if mode != "auto":
        return mode
    return "min" if metric.lower().endswith(_LOWER_IS_BETTER) else "max"


def value_of(metrics: Mapping[str, float], metric: str, field: str) -> float:
    """The figure that ``field`` of the spec asks for.

    Raises:
        SpecError: validation gives no such metric.
    """
    if metric not in metrics:
        raise SpecError(
            f"{field} names a metric that this run does not have",
            got=repr(metric),
            allowed=", ".join(sorted(metrics)),
            action=f"correct {field}",
            path=field,
        )
    return metrics[metric]


class Best:
    """The best value so far and the step it was seen at.

    A value that is not finite is never the best.

    Args:
        metric: name as in the logs (``val_accuracy``).
        mode: ``min``, ``max`` or ``auto``.
        min_delta: improvement smaller than this does not count.
    """

    def __init__(self, metric: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        self.metric = metric
        self.mode = mode_of(metric, mode)
        self.min_delta = min_delta
        self.value: float | None = None
        self.step: int | None = None

    def update(self, value: float, step: int) -> bool:
        """Takes ``value`` if it is better than the best so far; True when it was."""
        if not math.isfinite(value):
            return False
        if self.value is not None:
            gain = value - self.value if self.mode == "max" else self.value - value
            if gain <= self.min_delta:
                return False
        self.value, self.step = value, step
        return True

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint's state."""
        return {"metric": self.metric, "value": self.value, "step": self.step}

    def from_json(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`to_json` gave, unless it speaks of another metric."""
        if state.get("metric") == self.metric:
            self.value, self.step = state["value"], state["step"]


class EarlyStopping:
    """Counts validations without improvement; one patience a phase.

    Args:
        best: its own tracker (its metric may differ from the checkpoint's).
        patience: validations without improvement after which the phase ends (as in Keras:
            0 and 1 both end it at the first one).
    """

    def __init__(self, best: Best, patience: int) -> None:
        self.best = best
        self.patience = patience
        self.waited = 0

    def update(self, value: float, step: int) -> None:
        """Takes note of one validation."""
        if self.best.update(value, step):
            self.waited = 0
        else:
            self.waited += 1

    @property
    def over(self) -> bool:
        """True when the phase should end."""
        return 0 < self.waited >= self.patience

    def restart(self) -> None:
        """A new phase begins: it has its whole patience and must beat only itself."""
        self.waited = 0
        self.best.value = self.best.step = None

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint's state."""
        return {"best": self.best.to_json(), "waited": self.waited}

    def from_json(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`to_json` gave."""
        self.best.from_json(state["best"])
        self.waited = state["waited"]
