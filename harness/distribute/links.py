"""Many TCP connections, served by one thread.

Everything that belongs to a connection is touched on that thread only; other threads post what
they want done.  So a process that stands still (a first compile, a hung collective) still answers,
and nobody who sends ever waits for a peer that does not read.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from harness.distribute.sockets import keep_alive, plain_address
from harness.distribute.wire import LINE_LIMIT, Lines, Session, Unreadable

_READ = 256 * 1024
_PIECES = 64
_UNSENT_LIMIT = 2 * LINE_LIMIT
_BUSY_S = 5.0
"""How much longer than asked for is waited for a thread that a handler holds up."""


class Link:
    """One connection; ``rank`` and ``session`` are set by its user once they are known."""

    def __init__(self, sock: socket.socket, limit: int) -> None:
        self.sock = sock
        self.peer = plain_address(sock.getpeername()[0])
        self.lines = Lines(limit)
        self.session: Session | None = None
        self.rank: int | None = None
        self.open = True
        self.unsent = 0
        self.outgoing: deque[memoryview] = deque()


class Links:
    """The thread and its connections.

    Args:
        name: of the thread.
        on_line: called with every whole line of a link.
        on_end: called once when a link ends, with the reason; not after :meth:`drop`.
        on_stop: called when the thread ends, however that comes.
    """

    def __init__(
        self,
        name: str,
        on_line: Callable[[Link, bytes], None],
        on_end: Callable[[Link, str], None],
        on_stop: Callable[[], None],
    ) -> None:
        self._on_line, self._on_end, self._on_stop = on_line, on_end, on_stop
        self.links: set[Link] = set()
        self._listener: socket.socket | None = None
        self._stopped = False
        self._posted: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        # A forked child that outlives this process would keep its connections open, and the
        # others would never hear of its end.
        mine = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _close_in_child(mine()))

    def start(self) -> None:
        self._thread.start()

    def post(self, action: Callable[[], None]) -> None:
        """Has ``action`` called on the thread, soon; from any thread."""
        self._posted.append(action)
        with contextlib.suppress(OSError):  # full: it is being woken; closed: it has ended
            self._waker.send(b"\0")

    def wait_for(self, condition: Callable[[], bool], wait_s: float) -> bool:
        """Waits until ``condition``, which is asked on the thread, holds; whether it does.

        May be called from anywhere: on the thread itself the connections are served meanwhile.
        """
        end = time.monotonic() + wait_s
        if threading.current_thread() is self._thread:
            while not condition():
                if self._stopped or (left := end - time.monotonic()) <= 0:
                    return condition()
                self._turn(min(left, 0.05))
            return True
        return self._wait_outside(condition, end)

    def _wait_outside(self, condition: Callable[[], bool], end: float) -> bool:
        answered = threading.Event()
        holds = False

        def ask() -> None:
            nonlocal holds
            holds = condition()
            if not holds and time.monotonic() < end:
                self.after(0.02, ask)
            else:
                answered.set()

        self.post(ask)
        while not answered.wait(0.5):
            if not self._thread.is_alive():
                return condition()
            if time.monotonic() > end + _BUSY_S:
                return False
        return holds

    def listen(self, sock: socket.socket, on_link: Callable[[Link], None], limit: int) -> None:
        """Takes connections from now on; on the thread, or before it starts."""
        sock.setblocking(False)
        self._listener = sock
        self._selector.register(
            sock, selectors.EVENT_READ, lambda mask: self._accept(sock, on_link, limit)
        )

    def close_listener(self) -> None:
        """Takes no more connections."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def add(self, sock: socket.socket, limit: int) -> Link:
        """Serves a connection from now on; on the thread, or before it starts."""
        sock.setblocking(False)
        keep_alive(sock)
        link = Link(sock, limit)
        self.links.add(link)
        self._selector.register(sock, selectors.EVENT_READ, lambda mask: self._serve(link, mask))
        return link

    # All below: on the thread only.

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Has ``action`` called in ``delay_s``."""
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._number), action))

    def send(self, link: Link, *pieces: bytes) -> None:
        """Sends when the peer takes it; one that takes nothing is ended."""
        if not link.open:
            return
        link.outgoing += map(memoryview, pieces)
        link.unsent += sum(map(len, pieces))
        self._flush(link)
        if link.open and link.unsent > _UNSENT_LIMIT:
            self._end(link, "it does not take what it is sent")

    def drop(self, link: Link) -> None:
        """Ends a link without telling."""
        if link.open:
            link.open = False
            self.links.discard(link)
            self._selector.unregister(link.sock)
            link.sock.close()

    def stop(self, wait_s: float = 5.0) -> None:
        """Ends the thread and with it all links; from any thread."""

        def stop() -> None:
            self._stopped = True

        self.post(stop)
        if self._thread.ident is None:  # was never started
            self._close()
        elif threading.current_thread() is not self._thread:
            self._thread.join(wait_s)

    def _run(self) -> None:
        try:
            while not self._stopped:
                self._turn(None)
        finally:
            self._close()
            self._on_stop()

    def _turn(self, wait_s: float | None) -> None:
        """Serves what is there to serve, or waits for it until the next timer."""
        waits = [] if wait_s is None else [wait_s]
        waits += [self._timers[0][0] - time.monotonic()] if self._timers else []
        for key, mask in self._selector.select(max(0.0, min(waits)) if waits else None):
            serve: Callable[[int], None] = key.data
            serve(mask)
        while self._posted:
            self._posted.popleft()()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def _drain(self, mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                continue

    def _accept(self, sock: socket.socket, on_link: Callable[[Link], None], limit: int) -> None:
        while self._listener is sock:
            try:
                accepted, _ = sock.accept()
            except BlockingIOError:
                return
            except OSError:  # it has gone again; or there is no descriptor left for it just now
                time.sleep(0.01)
                return
            try:
                link = self.add(accepted, limit)
            except OSError:  # it has gone again
                accepted.close()
                continue
            on_link(link)

    def _serve(self, link: Link, mask: int) -> None:
        if link.open and mask & selectors.EVENT_WRITE:
            self._flush(link)
        if not link.open or not mask & selectors.EVENT_READ:
            return
        try:
            data = link.sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(link, error.strerror or str(error))
            return
        if not data:
            self._end(link, "its connection was closed")
            return
        try:
            for line in link.lines.feed(data):
                self._on_line(link, line)
                if link not in self.links:
                    return
        except Unreadable as error:
            self._end(link, f"it sent {error}")

    def _flush(self, link: Link) -> None:
        try:
            while link.outgoing:
                sent = link.sock.sendmsg(list(itertools.islice(link.outgoing, _PIECES)))
                link.unsent -= sent
                while link.outgoing and sent >= len(link.outgoing[0]):
                    sent -= len(link.outgoing.popleft())
                if sent:
                    link.outgoing[0] = link.outgoing[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            # What the peer said last may still be there to be read, and then its end.
            link.outgoing.clear()
            link.unsent = 0
        self._watch(link)

    def _watch(self, link: Link) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.outgoing else 0)
        key = self._selector.get_key(link.sock)
        if key.events != wanted:
            self._selector.modify(link.sock, wanted, key.data)

    def _end(self, link: Link, why: str) -> None:
        self.drop(link)
        self._on_end(link, why)

    def _close(self) -> None:
        for link in list(self.links):
            self.drop(link)
        self.close_listener()
        self._selector.close()
        self._woken.close()
        self._waker.close()


def _close_in_child(links: Any) -> None:
    """Closes the child's copies only: the selector is shared with the parent, so it stays."""
    if links is not None:
        for link in list(links.links):
            link.sock.close()
        if links._listener is not None:
            links._listener.close()
