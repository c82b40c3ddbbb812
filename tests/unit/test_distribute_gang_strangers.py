"""Who is no rank of this start is not listened to."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.distribute import first_rank, wire
from harness.distribute.meeting import meeting_ports
from harness.distribute.sockets import listen
from tests.unit.gang_helpers import WAIT_S, Ranks, _connected, place, ranks

__all__ = ["ranks"]  # a fixture, found by its name


class TestStrangers:
    @pytest.mark.parametrize(
        "sent",
        [
            b"GET / HTTP/1.1\r\n\r\n",
            b"\n",
            b"\x00\xff" * 1000,
            b"x" * 1_000_000,
            wire.hello()[0] + b"garbage\n",
            wire.hello()[0] + b"x" * 1_000_000,
            wire.hello()[0] * 3,
        ],
        ids=["http", "empty", "bytes", "long", "unproven", "long after hello", "thrice"],
    )
    def test_they_are_dropped_and_the_ranks_meet(self, ranks: Ranks, sent: bytes) -> None:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ranks.rank, place(0, 2))
            with _connected(ranks.key) as stranger:
                try:
                    stranger.sendall(sent)
                    while stranger.recv(1000):
                        pass
                except (ConnectionResetError, BrokenPipeError):
                    pass  # that is how it is dropped in the midst of what it sends
            assert ranks.rank(place(1, 2)).members == first.result(WAIT_S).members

    def test_one_who_says_nothing_is_dropped_after_a_time(
        self, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(first_rank, "_SILENT_S", 0.2)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ranks.rank, place(0, 2))
            with _connected(ranks.key) as stranger:
                assert stranger.recv(100) == b""
            assert ranks.rank(place(1, 2)).members == first.result(WAIT_S).members

    def test_too_many_at_one_time_are_turned_away(
        self, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(first_rank, "_STRANGERS", 3)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ranks.rank, place(0, 2))
            crowd = [_connected(ranks.key) for _ in range(6)]
            assert crowd[-1].recv(100) == b""
            for stranger in crowd:
                stranger.close()
            assert ranks.rank(place(1, 2)).members == first.result(WAIT_S).members

    @pytest.mark.parametrize("says", [b"SSH-2.0-x\r\n", b"", None, b"x" * 10_000])
    def test_other_services_at_our_first_port_are_passed_by(
        self, ranks: Ranks, says: bytes | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("harness.distribute.finding._ANSWER_S", 0.5)
        with listen(meeting_ports(ranks.key)[:1], everywhere=False) as service:
            threading.Thread(target=_serve, args=(service, says), daemon=True).start()
            gangs = ranks.met(3)
            service.shutdown(socket.SHUT_RDWR)
        assert len(gangs[2].members) == 3


def _serve(service: socket.socket, says: bytes | None) -> None:
    """Says something to all who come, closes at b"", or says nothing at all at None."""
    silent = []
    while True:
        try:
            came, _ = service.accept()
        except OSError:
            break
        if says is None:
            silent.append(came)
            continue
        with came:
            came.sendall(says)
    for came in silent:
        came.close()
