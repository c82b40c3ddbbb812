"""How far a long count is, for whoever waits for it."""

from __future__ import annotations

import threading
import time
from typing import TextIO

_TERMINAL_S, _LINES_S = 0.2, 30.0
_CLEARED = "\r\x1b[K"


class Counted:
    """One line on a terminal that is written anew; elsewhere a line every half minute.

    Args:
        verb: what is done with them, as ``looked at``.
        unit: what is counted, in the plural.
    """

    def __init__(self, verb: str, unit: str, total: int, out: TextIO) -> None:
        self._verb, self._unit, self._total, self._out = verb, unit, total, out
        self._terminal = out.isatty()
        self._lock = threading.Lock()
        self._done, self._begun = 0, time.monotonic()
        self._next = 0.0 if self._terminal else _LINES_S

    def add(self, count: int) -> None:
        """So many more are done; from any thread."""
        with self._lock:
            self._done += count
            gone = time.monotonic() - self._begun
            if gone >= self._next:
                self._next = gone + (_TERMINAL_S if self._terminal else _LINES_S)
                self._show(gone)

    def _show(self, gone: float) -> None:
        pace = self._done / gone if gone else 0.0
        text = f"{self._verb} {self._done:,} of {self._total:,} {self._unit}, {pace:,.0f} a second"
        self._out.write(f"{_CLEARED}{text}" if self._terminal else f"{text}\n")
        self._out.flush()

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *error: object) -> None:
        if self._terminal:
            self._out.write(_CLEARED)
            self._out.flush()
