"""How long a training still takes, from how it went lately."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 120.0
"""Long enough to hold a validation or a save, short enough to follow a change of pace."""


class Eta:
    """Steps per second over the last two minutes, pauses in it counted.

    The time before the first :meth:`seen` (start, compile) does not count.  A step below the
    last one (a rollback) starts over.

    Args:
        window_s: seconds looked back.
        clock: seconds, never going backwards.
    """

    def __init__(
        self, *, window_s: float = WINDOW_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window_s = window_s
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def seen(self, step: int) -> None:
        """``step`` is done now."""
        now = self._clock()
        if self._seen and step < self._seen[-1][1]:
            self._seen.clear()
        # One point a second is enough for the window, however short a step is.
        if len(self._seen) > 1 and self._seen[-1][0] - self._seen[-2][0] < 1.0:
            self._seen.pop()
        self._seen.append((now, step))
        while len(self._seen) > 2 and now - self._seen[1][0] >= self._window_s:
            self._seen.popleft()

    def steps_per_s(self) -> float | None:
        """Steps per second, None while nothing is known."""
        if len(self._seen) < 2:
            return None
        (begun, first), (ended, last) = self._seen[0], self._seen[-1]
        if ended <= begun or last <= first:
            return None
        return (last - first) / (ended - begun)

    def seconds_left(self, total_steps: int) -> float | None:
        """Seconds until ``total_steps`` are done, None while nothing is known."""
        rate = self.steps_per_s()
        if rate is None:
            return None
        return max(0, total_steps - self._seen[-1][1]) / rate
