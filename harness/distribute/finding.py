"""How a rank finds rank 0: it tries addresses and ports until somebody proves to be it."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence

from harness.distribute import wire
from harness.distribute.meeting import meeting_ports

_CONNECT_S = 3.0
_ANSWER_S = 5.0
"""How long whoever listens at a port may take to show that it is rank 0."""
_PAUSE_S = (0.05, 2.0)
"""Between two rounds over all places: at first, and at most."""
_RESOLVE_AGAIN_S = 15.0
"""A name that does not resolve can cost many seconds, so it is not asked for in every round."""


class Search:
    """The places where rank 0 may be, and what was seen there."""

    def __init__(self, key: str, addresses: Sequence[str]) -> None:
        self.addresses = list(addresses)
        self.ports = meeting_ports(key)
        self._token = wire.token_of(key)
        self._seen: Counter[str] = Counter()
        self._known: dict[str, list[str]] = {}
        self._unknown: dict[str, tuple[float, str]] = {}

    def run(
        self, wait_s: float, say_after_s: float, say: Callable[[str], None]
    ) -> tuple[socket.socket, wire.Session] | None:
        """Looks for rank 0 until it is found, at most ``wait_s`` and the round that has begun.

        Args:
            say: called once, if it takes longer than ``say_after_s``.
        """
        begun = time.monotonic()
        pause, said = _PAUSE_S[0], False
        while (found := self._round()) is None:
            waited = time.monotonic() - begun
            if waited > wait_s:
                return None
            if not said and waited > say_after_s:
                said = True
                say(f"looks for rank 0 at {', '.join(self.addresses)}")
            time.sleep(min(pause, max(0.05, wait_s - waited)))
            pause = min(pause * 1.5, _PAUSE_S[1])
        return found

    def seen(self) -> str:
        """What was found in the last round, in words."""
        reasons = "; ".join(f"{why} ({times}x)" for why, times in self._seen.most_common(6))
        return f"at ports {', '.join(map(str, self.ports))}: {reasons}"

    def _round(self) -> tuple[socket.socket, wire.Session] | None:
        self._seen = Counter()
        places = [(name, address) for name in self.addresses for address in self._resolve(name)]
        # By ports first: rank 0 is at the first one unless somebody else was.
        for port in self.ports:
            for name, address in places:
                try:
                    return self._greet(address, port)
                except OSError as error:
                    self._seen[f"{name}: {error.strerror or error}"] += 1
                except wire.Unreadable as error:
                    self._seen[f"{name}: {error}"] += 1
        return None

    def _resolve(self, name: str) -> list[str]:
        if name in self._known:
            return self._known[name]
        asked, why = self._unknown.get(name, (float("-inf"), ""))
        if time.monotonic() - asked >= _RESOLVE_AGAIN_S:
            try:
                found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                why = getattr(error, "strerror", None) or str(error)
                self._unknown[name] = (time.monotonic(), why)
            else:
                self._known[name] = list(dict.fromkeys(str(entry[4][0]) for entry in found))
                return self._known[name]
        self._seen[f"{name}: {why}"] += 1
        return []

    def _greet(self, address: str, port: int) -> tuple[socket.socket, wire.Session]:
        """Connects and lets whoever answers prove that it is rank 0."""
        sock = socket.create_connection((address, port), timeout=_CONNECT_S)
        try:
            if sock.getsockname() == sock.getpeername():
                raise wire.Unreadable("nobody (the connection met itself)")
            line, nonce = wire.hello()
            sock.sendall(line)
            return sock, wire.check_answer(self._token, nonce, _one_line(sock), port)
        except BaseException:
            sock.close()
            raise


def _one_line(sock: socket.socket) -> bytes:
    end = time.monotonic() + _ANSWER_S
    lines = wire.Lines(wire.GREETING_LIMIT)
    while (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        data = sock.recv(wire.GREETING_LIMIT)
        if not data:
            raise wire.Unreadable("closed by whoever listens there")
        for line in lines.feed(data):
            return line
    raise wire.Unreadable("no answer from whoever listens there")
