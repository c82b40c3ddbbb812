"""Who in this process is told what other ranks say, and that one of them is lost."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from harness.distribute.members import Lost

Handler = Callable[[int, Any], None]
Say = Callable[[str], None]

_HELD = 10_000
"""Messages that are kept for a handler that is not there yet."""


class Hearing:
    """The handlers of one process.  All of them are called on the thread of the connections.

    What comes before its handler is there is kept for it, in its order: ranks are not equally fast.
    """

    def __init__(self, say: Say) -> None:
        self.say = say
        self.lost: Lost | None = None
        self.lost_handled = threading.Event()
        """Set once there is a loss and its handler has returned."""
        self._handlers: dict[str, Handler] = {}
        self._held: deque[tuple[int, str, Any]] = deque()
        self._on_lost: Callable[[Lost], None] | None = None

    def on(self, kind: str, handler: Handler) -> None:
        self._handlers[kind] = handler
        held, self._held = self._held, deque()
        for rank, other, data in held:
            self.deliver(rank, other, data)

    def deliver(self, rank: int, kind: str, data: Any) -> None:
        handler = self._handlers.get(kind)
        if handler is not None:
            self._call(lambda: handler(rank, data), f"message {kind!r} of rank {rank}")
        elif len(self._held) < _HELD:
            self._held.append((rank, kind, data))
        elif len(self._held) == _HELD:
            self._held.append((rank, kind, data))
            self.say(f"more than {_HELD} messages that nobody here waits for, {kind!r} the last")

    def on_lost(self, handler: Callable[[Lost], None]) -> None:
        self._on_lost = handler
        self._tell_lost()

    def lose(self, lost: Lost) -> None:
        """Takes note of the first loss; later ones are its consequences."""
        if self.lost is None:
            self.lost = lost
            self._tell_lost()

    def _tell_lost(self) -> None:
        handler, lost = self._on_lost, self.lost
        if handler is not None and lost is not None and not self.lost_handled.is_set():
            self._on_lost = None
            self._call(lambda: handler(lost), f"the loss of {lost.name}")
            self.lost_handled.set()

    def _call(self, call: Callable[[], None], what: str) -> None:
        """Calls a handler; its error must not end the thread that holds the ranks together."""
        try:
            call()
        except Exception:
            self.say(f"handling {what} raised an error:\n{traceback.format_exc()}")
