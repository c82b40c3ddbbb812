"""Lengths of training written with their unit (``10min``, ``50 steps``, ``3 epochs``, ``5%``).

This is the only place where such a length is read or converted.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from harness.errors import UsageError

Unit = Literal["s", "steps", "epochs", "percent"]

_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)\s*([A-Za-z]+|%)")
_UNITS: dict[str, tuple[Unit, float]] = {
    "s": ("s", 1.0),
    "sec": ("s", 1.0),
    "min": ("s", 60.0),
    "h": ("s", 3600.0),
    "step": ("steps", 1.0),
    "steps": ("steps", 1.0),
    "epoch": ("epochs", 1.0),
    "epochs": ("epochs", 1.0),
    "%": ("percent", 1.0),
}
EXAMPLES: dict[Unit, str] = {
    "s": "a time (30s, 10min, 2h)",
    "steps": "steps (50 steps)",
    "epochs": "epochs (3 epochs)",
    "percent": "a percentage (5%)",
}


@dataclass(frozen=True)
class Duration:
    """A length of training: ``value`` in ``unit``; times are held in seconds.

    Raises:
        ValueError: the value is negative or not finite, a number of steps is not whole, or a
            percentage is above 100.
    """

    value: float
    unit: Unit

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or self.value < 0:
            raise ValueError("must be finite and not negative")
        if self.unit == "steps" and not float(self.value).is_integer():
            raise ValueError("a number of steps must be whole")
        if self.unit == "percent" and self.value > 100:
            raise ValueError("a percentage must be at most 100%")

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Reads ``10min``, ``2h``, ``30s``, ``50 steps``, ``3 epochs`` or ``5%``.

        Raises:
            ValueError: the text has no such form; the message says what is wrong.
        """
        form = _FORM.fullmatch(text.strip())
        if form is None:
            raise ValueError("must be a number with its unit")
        known = _UNITS.get(form.group(2))
        if known is None:
            raise ValueError(f"unknown unit {form.group(2)!r}")
        unit, factor = known
        return cls(float(form.group(1)) * factor, unit)

    def __str__(self) -> str:
        """The shortest text that :meth:`parse` reads back to an equal duration."""
        if self.unit == "s":
            for name, factor in (("h", 3600.0), ("min", 60.0)):
                count = self.value / factor
                if self.value and count.is_integer() and count * factor == self.value:
                    return f"{_number(count)}{name}"
            return f"{_number(self.value)}s"
        if self.unit == "percent":
            return f"{_number(self.value)}%"
        return f"{_number(self.value)} {self.unit}"

    @property
    def seconds(self) -> float | None:
        """The length in seconds, or None when it is not a time."""
        return self.value if self.unit == "s" else None

    def steps(self, steps_per_epoch: int, total_steps: int) -> int:
        """The length in steps, rounded to the nearest whole one; only a length of 0 has none.

        Args:
            steps_per_epoch: steps of one epoch, what ``epochs`` is counted in.
            total_steps: what a percentage is taken of.

        Raises:
            UsageError: the length is a time, which has no fixed number of steps.
        """
        if self.unit == "steps":
            return int(self.value)
        if self.unit == "epochs":
            return self._at_least_one(self.value * steps_per_epoch)
        if self.unit == "percent":
            return self._at_least_one(self.value / 100 * total_steps)
        raise UsageError(
            "a time has no fixed number of steps",
            got=str(self),
            allowed="steps, epochs or a percentage",
            action="write the length in one of these units",
        )

    def _at_least_one(self, steps: float) -> int:
        # 0.1 epochs of 4 steps would round to 0, and nothing happens every 0 steps.
        return max(1, round(steps)) if self.value else 0


def _number(value: float) -> str:
    # repr() of a float reads back exactly; a whole number is shown without its ".0".
    return str(int(value)) if float(value).is_integer() and value < 1e15 else repr(float(value))
