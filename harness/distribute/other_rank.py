"""The part of all ranks but rank 0: they find it, and hear from it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from harness.distribute import wire
from harness.distribute.finding import Search
from harness.distribute.hearing import Hearing
from harness.distribute.links import Link, Links
from harness.distribute.members import Lost, Member, node_name
from harness.distribute.sockets import plain_address
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble, Problem

_SLACK_S = 30.0
"""What rank 0 may have started later than this rank, and still tells who is missing."""
_SAY_AFTER_S = 10.0


class OtherRank:
    """See :class:`~harness.distribute.gang.Gang`, of which this is the side of all but rank 0."""

    def __init__(
        self, topology: Topology, me: Member, key: str, addresses: Sequence[str], hearing: Hearing
    ) -> None:
        self.members: tuple[Member, ...] = ()
        self._topology, self._me, self._hearing = topology, me, hearing
        self._search = Search(key, addresses)
        self._links = Links("harness-gang", self._line, self._ended, self._stopped)
        self._link: Link | None = None
        self._decided = threading.Event()
        self._noted = threading.Event()
        self._over = threading.Event()
        self._problems: list[Problem] = []
        self._leaving = False
        self._accounted = False

    def meet(self, wait_s: float) -> None:
        """Finds rank 0 and waits for what it says.

        Raises:
            EnvironmentNotAble: rank 0 was not found, or some ranks did not come.
        """
        sock, session = self._find(wait_s)
        link = self._link = self._links.add(sock, wire.LINE_LIMIT)
        link.rank, link.session = 0, session
        reached = plain_address(sock.getpeername()[0])
        self._links.start()
        self._send("join", self._me.to_json(), reached)
        if not self._decided.wait(wait_s + _SLACK_S):
            self._problems = [
                Problem(
                    "rank 0 does not say whether all ranks have come",
                    got=f"nothing from {reached} in {wait_s + _SLACK_S:g} s",
                    action="look into the log of rank 0",
                )
            ]
        if self._problems:
            raise EnvironmentNotAble(self._problems)

    def _find(self, wait_s: float) -> tuple[socket.socket, wire.Session]:
        # One speaks for all, since all look for the same.
        say_after_s = _SAY_AFTER_S if self._me.rank == 1 else wait_s
        found = self._search.run(wait_s, say_after_s, self._hearing.say)
        if found is not None:
            return found
        first = f"rank 0 (node {node_name(self._topology, 0)})"
        raise EnvironmentNotAble(
            f"{self._me.name} did not find {first} within {wait_s:g} s",
            got=self._search.seen(),
            allowed="rank 0 at one of them",
            action="look into the log of rank 0 for why it did not start; a firewall between the "
            "nodes must let them talk; HARNESS_GANG_ADDRESS names its node where the launcher "
            "does not",
        )

    def tell(self, kind: str, data: Any) -> None:
        self._send("say", kind, data)

    def post_hearing(self, action: Callable[[], None]) -> None:
        self._links.post(action)

    def failed(self, message: str, exit_code: int, wait_s: float) -> bool:
        self._leaving = True
        self._send("failed", message, exit_code)
        self._noted.wait(wait_s)
        return self._accounted

    def leave(self, wait_s: float) -> Lost | None:
        self._send("bye")
        if not self._over.wait(wait_s):
            late = Lost(0, self.members[0].name, how=f"it did not end within {wait_s:g} s")
            self._links.post(lambda: self._lose(late))
            self._over.wait(wait_s)
        self.close()
        return self._hearing.lost

    def close(self) -> None:
        self._links.stop()

    def _send(self, kind: str, *data: Any) -> None:
        """Any thread; the lines are sealed in the order in which they are sent."""
        body = wire.encode(kind, *data)

        def send() -> None:
            link = self._link
            if link is not None and link.open and link.session is not None:
                self._links.send(link, *link.session.seal(body))

        self._links.post(send)

    def _line(self, link: Link, line: bytes) -> None:
        assert link.session is not None, "rank 0's connection has a session"
        kind, *rest = link.session.open(line)
        if kind == "say":
            self._hearing.deliver(0, *rest)
        elif kind == "members":
            self.members = tuple(Member(**member) for member in rest[0])
            self._decided.set()
        elif kind == "refused":
            self._problems = [Problem(**problem) for problem in rest[0]]
            self._send("heard")
            self._links.after(0.0, self._decided.set)
        elif kind == "noted":
            self._accounted = True
            self._noted.set()
        elif kind == "lost":
            self._accounted = True
            self._send("heard")
            self._links.after(0.0, lambda: self._lose(Lost.from_json(rest[0])))
        elif kind == "over":
            self._leaving = True
            self._links.drop(link)
            self._over.set()

    def _ended(self, link: Link, why: str) -> None:
        if self.members:
            self._lose(Lost(0, self.members[0].name, how=why))
        elif not self._problems:
            what = "rank 0 ended before all ranks had come"
            self._problems = [Problem(what, got=why, action="look into the log of rank 0")]
            self._decided.set()

    def _lose(self, lost: Lost) -> None:
        if not self._leaving:
            self._hearing.lose(lost)
        self._noted.set()
        self._over.set()

    def _stopped(self) -> None:
        for event in (self._decided, self._noted, self._over):
            event.set()
