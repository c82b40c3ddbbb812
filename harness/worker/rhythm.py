"""How long a process takes from one place at which it can stop to the next one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_REMEMBERED = 64
"""Places: what was slow longer ago, as a file system for some minutes, does not count for good."""


class Rhythm:
    """The places at which a run looks whether it is to stop, about one a second.

    Told by the thread that trains, asked by others.

    Args:
        clock: seconds, never going backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lengths: deque[float] = deque(maxlen=_REMEMBERED)
        self._last = clock()
        self._counts = False
        self.places = 0
        """How many there were."""
        self.begun = False
        """Whether a phase has begun: what is before it, as looking through data, has no places."""

    def begins(self) -> None:
        """A phase begins: the time to the next place is that of a compilation."""
        self._last, self._counts, self.begun = self._clock(), False, True

    def place(self) -> None:
        """The process could stop here."""
        now = self._clock()
        if self._counts:
            self._lengths.append(now - self._last)
        self._last, self._counts = now, True
        self.places += 1

    def forgive(self, seconds: float) -> None:
        """The process did not run for so long, and nothing was to be expected of it."""
        self._last += seconds

    @property
    def longest_s(self) -> float:
        """The longest time between two of the last places; 0 where there were none."""
        return max(tuple(self._lengths), default=0.0)

    @property
    def since_s(self) -> float:
        """Seconds since the last place, or since a phase has begun."""
        return self._clock() - self._last

    @property
    def compiles(self) -> bool:
        """Whether what goes on is not to be measured by what was before."""
        return not self._counts
