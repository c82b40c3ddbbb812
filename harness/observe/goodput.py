"""Where the time of an attempt went, and which share of it was training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

KINDS = (
    "startup",
    "compile",
    "train",
    "input_wait",
    "validate",
    "checkpoint",
    "restore",
    "idle",
)
"""Kinds of time.  ``train`` is the useful one; ``idle`` is everything not named otherwise."""


class Goodput:
    """A clock that is always in exactly one kind, so that the kinds add up to the whole.

    Args:
        kind: what the time belongs to from now on.
        clock: seconds, never going backwards.
    """

    def __init__(
        self, kind: str = "startup", *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._seconds = dict.fromkeys(KINDS, 0.0)
        self._kind = _known(kind)
        self._since = clock()

    @property
    def kind(self) -> str:
        """What the time belongs to now."""
        return self._kind

    def switch(self, kind: str) -> str:
        """From now on time belongs to ``kind``; returns what it belonged to."""
        _known(kind)
        before = self._kind
        self._settle()
        self._kind = kind
        return before

    @contextlib.contextmanager
    def during(self, kind: str) -> Iterator[None]:
        """Time inside belongs to ``kind``, afterwards to what it belonged to before."""
        before = self.switch(kind)
        try:
            yield
        finally:
            self.switch(before)

    def move(self, seconds: float, *, source: str, target: str) -> None:
        """Books ``seconds`` measured elsewhere under ``target`` instead of ``source``.

        For time that is known only afterwards, such as the wait for input inside a call that
        trains.  Never more than ``source`` has.

        Raises:
            ValueError: negative seconds.
        """
        if seconds < 0:
            raise ValueError(f"seconds must be >= 0, were {seconds}")
        self._settle()
        moved = min(seconds, self._seconds[_known(source)])
        self._seconds[source] -= moved
        self._seconds[_known(target)] += moved

    def seconds(self) -> dict[str, float]:
        """Seconds by kind up to now, every kind there."""
        self._settle()
        return dict(self._seconds)

    def shares(self) -> dict[str, float]:
        """Parts of the whole by kind, adding up to 1; all 0 before any time has passed."""
        seconds = self.seconds()
        total = sum(seconds.values())
        return {kind: value / total if total > 0 else 0.0 for kind, value in seconds.items()}

    def _settle(self) -> None:
        now = self._clock()
        self._seconds[self._kind] += max(0.0, now - self._since)
        self._since = now


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, was {kind!r}")
    return kind
