"""Ranks as threads of one process."""

from __future__ import annotations

import queue
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from harness.distribute import wire
from harness.distribute.gang import Gang
from harness.distribute.meeting import meeting_ports
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble

WAIT_S = 60.0
"""What tests wait for comes at once; so long on a machine that is busy with something else."""


def place(rank: int, size: int) -> Topology:
    return Topology(rank, size, "submitit", rank, size)


class Ranks:
    """Ranks of one start, each in a thread that ends once they have met."""

    def __init__(self) -> None:
        self.key = secrets.token_hex(16)
        self.said: list[str] = []
        self.gangs: list[Gang] = []

    def rank(self, topology: Topology, wait_s: float = WAIT_S, **changes: Any) -> Gang:
        given: dict[str, Any] = {"facts": {}, "addresses": ["127.0.0.1"], "say": self.said.append}
        gang = Gang.meet(topology, self.key, wait_s=wait_s, **{**given, **changes})
        self.gangs.append(gang)
        return gang

    def outcomes(self, *places: Topology, facts: Any = None, **changes: Any) -> list[Any]:
        """By place: the gang, or the error of the meeting."""

        def meet(topology: Topology) -> Any:
            own = {"facts": facts(topology.rank)} if facts else {}
            try:
                return self.rank(topology, **own, **changes)
            except EnvironmentNotAble as error:
                return error

        with ThreadPoolExecutor(len(places)) as pool:
            return list(pool.map(meet, places))

    def met(self, size: int, **changes: Any) -> list[Gang]:
        gangs = self.outcomes(*(place(rank, size) for rank in range(size)), **changes)
        assert all(isinstance(gang, Gang) for gang in gangs), gangs
        return gangs


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    made = Ranks()
    yield made
    for gang in made.gangs:
        gang.close()


def messages(gang: Gang, kind: str) -> queue.Queue[tuple[int, Any]]:
    heard: queue.Queue[tuple[int, Any]] = queue.Queue()
    gang.on(kind, lambda rank, data: heard.put((rank, data)))
    return heard


def together(*calls: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [one.result(WAIT_S) for one in [pool.submit(call) for call in calls]]


def _joined(key: str, rank: int, size: int) -> tuple[socket.socket, wire.Session]:
    """A rank's connection by hand."""
    from harness.distribute.finding import Search
    from harness.distribute.members import Member

    found = Search(key, ["127.0.0.1"]).run(WAIT_S, WAIT_S, print)
    assert found is not None
    sock, session = found
    me = Member.of(place(rank, size), "h", 1, {})
    sock.sendall(b"".join(session.seal(wire.encode("join", me.to_json(), "127.0.0.1"))))
    return sock, session


def _connected(key: str) -> socket.socket:
    """A connection to rank 0, which may not listen yet."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", meeting_ports(key)[0]), timeout=WAIT_S)
        except ConnectionRefusedError:
            assert time.monotonic() < end, "rank 0 does not listen"
            time.sleep(0.01)
