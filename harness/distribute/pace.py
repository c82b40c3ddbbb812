"""How many steps the next call carries out.

Python is left out for as long as possible, and entered often enough that stopping, logging
and saving are never late.  It stands with the distribution because all ranks must carry out the
same calls.
"""

from __future__ import annotations

from collections.abc import Callable

CALL_SECONDS = 1.0
"""Aim for one call; it may last twice that when steps suddenly slow down."""

_SMOOTHING = 0.5


class Pace:
    """Chooses steps per call from the measured time of a step.

    The first call (which compiles) is one step and does not count; then the number at most
    doubles from call to call, so that one lucky measurement does not make a long call.
    """

    def __init__(
        self, call_seconds: float = CALL_SECONDS, agree: Callable[[int], int] = int
    ) -> None:
        """
        Args:
            agree: makes the ranks' own numbers one (``Distribution.first``).
        """
        self._call_seconds = call_seconds
        self._agree = agree
        self._step_seconds: float | None = None
        self._largest = 1
        self._calls = 0

    @property
    def step_seconds(self) -> float | None:
        """Smoothed seconds a step; None before it is known."""
        return self._step_seconds

    def next(self, *limits: int) -> int:
        """Steps of the next call: at most the smallest of ``limits``, at least 1."""
        wanted = self._largest
        if self._step_seconds:
            wanted = min(wanted, max(1, int(self._call_seconds / self._step_seconds)))
        return self._agree(max(1, min(wanted, *limits)))

    def done(self, steps: int, seconds: float) -> None:
        """Takes note of a call of ``steps`` steps that lasted ``seconds``."""
        self._calls += 1
        if self._calls == 1:
            return
        now = seconds / steps
        if self._step_seconds is None:
            self._step_seconds = now
        else:
            self._step_seconds += _SMOOTHING * (now - self._step_seconds)
        self._largest = max(self._largest, 2 * steps)

    def restart(self) -> None:
        """The next call compiles again (another phase)."""
        self._calls = 0
