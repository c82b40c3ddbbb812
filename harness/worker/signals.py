"""The wish to stop, heard at once even while TensorFlow compiles.

A Python signal handler waits for the running call to return, which in a first compile is many
seconds.  The C handler beneath it writes the signal's number to a socket right away, and a
thread reads it there.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

from harness.errors import StoppedEarly

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
_SECOND_AFTER_S = 1.0
"""A second SIGINT sooner than this is the same wish (a terminal signals whole groups)."""


class StopSignals:
    """Context manager that listens for stop signals.

    Before the first step there is nothing to save: ``leave`` is called at once, on the
    listening thread.  After it, :attr:`requested` tells the loop, which saves and leaves at the
    next step boundary.  A second Ctrl-C, a second or more later, leaves at once too; whatever
    was committed stays.

    Args:
        leave: ends the process; called with the reason in words.  None, in a program that must
            live on: StoppedEarly is raised in the main thread as soon as Python runs there.
        say: tells the user that the signal was heard.
        forward: hears of every signal, by its name and whether it is to leave at once, and decides
            in the place of this process: it is one of several ranks, of which the first decides.
    """

    def __init__(
        self,
        leave: Callable[[str], None] | None,
        say: Callable[[str], None],
        forward: Callable[[str, bool], None] | None = None,
    ) -> None:
        self._leave = leave
        self._say = say
        self._forward = forward
        self._reason: str | None = None
        self._asked_at = float("inf")
        self._saves = False
        self._leaves = False
        self._held: dict[signal.Signals, object] = {}
        self._lock = threading.Lock()

    @property
    def may_leave(self) -> bool:
        """Whether the process may end at once."""
        return self._leave is not None or self._forward is not None

    @property
    def requested(self) -> str | None:
        """Why the run should stop; None while it need not."""
        return self._reason

    def stepped(self) -> None:
        """From here on there is something to save."""
        self._saves = True

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self  # Python lets only the main thread install handlers
        if getattr(signal.getsignal(signal.SIGINT), "heard", False):
            raise KeyboardInterrupt  # it came before, and was lost on the way
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup: it is to live on without its terminal
            self._held[number] = signal.signal(number, self._in_main_thread)
        self._held_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="harness-signals", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._held:
            return
        signal.set_wakeup_fd(self._held_fd)
        for number, handler in self._held.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._held.clear()
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")  # wakes the thread, which then ends
        self._writer.close()

    def _listen(self) -> None:
        with self._reader:
            while byte := self._reader.recv(1):
                if byte[0] == 0:
                    return
                if byte[0] in SIGNALS:
                    self._on_signal(signal.Signals(byte[0]))

    def _on_signal(self, number: signal.Signals) -> None:
        with self._lock:
            hurries = self._reason is not None and self._hurries(number, time.monotonic())
            if self._forward is None:
                act = self._asked(number.name, hurries)
            else:
                if self._reason is None:
                    self._reason, self._asked_at = number.name, time.monotonic()
                act = partial(self._forward, number.name, hurries)
        act()

    def heard(self, name: str, hurries: bool) -> None:
        """Takes a signal that another rank has received for one of this process."""
        with self._lock:
            act = self._asked(name, hurries and self._reason is not None)
        act()

    def _asked(self, name: str, hurries: bool) -> Callable[[], None]:
        """Takes note; what is to be done, once the lock is free.

        Whoever leaves speaks with the other ranks, whose own signals come in meanwhile.
        """
        if self._leaves:
            return _nothing
        if self._reason is None:
            self._reason, self._asked_at = name, time.monotonic()
            if self._saves:
                return partial(self._say, f"{name}: saves at the next step, then stops")
            return self._leaving(name)
        return self._leaving(f"second {name}") if hurries else _nothing

    def _leaving(self, reason: str) -> Callable[[], None]:
        if self._leave is None:
            return _nothing
        self._leaves = True
        return partial(self._leave, reason)

    def _hurries(self, number: int, now: float) -> bool:
        return number == signal.SIGINT and now - self._asked_at >= _SECOND_AFTER_S

    def _in_main_thread(self, number: int, frame: FrameType | None) -> None:
        """A handler must be there for the socket to be written; the thread does the rest."""
        if self._forward is not None:
            return  # one rank that left by itself would keep the others waiting
        if self._leave is None and (not self._saves or self._hurries(number, time.monotonic())):
            raise StoppedEarly(
                f"stopped by {signal.Signals(number).name} before this attempt had saved anything",
                action="run it again; it goes on from the last checkpoint, if there is one",
            )


def _nothing() -> None:
    """Nothing is to be done."""
