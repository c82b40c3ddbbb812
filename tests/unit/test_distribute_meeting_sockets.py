"""Sockets and descriptors of a meeting."""

from __future__ import annotations

import resource
import socket

import pytest

from harness.distribute import sockets
from harness.distribute.meeting import (
    meeting_ports,
)
from harness.errors import EnvironmentNotAble


class TestSockets:
    def test_the_first_free_port_is_taken(self) -> None:
        ports = meeting_ports("first free")
        with sockets.listen(ports, everywhere=False) as one:
            first = one.getsockname()
            assert first[0] == "127.0.0.1"
            with sockets.listen(ports, everywhere=True) as two:
                assert two.getsockname()[1] in ports
                assert two.getsockname()[1] != first[1]

    def test_no_free_port_is_an_error_that_says_so(self) -> None:
        ports = meeting_ports("none free")[:2]
        with (
            sockets.listen(ports[:1], everywhere=True),
            sockets.listen(ports[1:], everywhere=False),
            pytest.raises(EnvironmentNotAble, match="already in use") as raised,
        ):
            sockets.listen(ports, everywhere=True)
        assert all(str(port) in str(raised.value) for port in ports)

    def test_sockets_are_not_handed_to_other_programs(self) -> None:
        with sockets.listen(meeting_ports("inherit"), everywhere=True) as sock:
            assert not sock.get_inheritable()

    def test_a_held_port_is_nobody_elses(self) -> None:
        held, port = sockets.hold_port()
        with held, socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))

    def test_a_server_that_reuses_addresses_gets_a_held_port_at_once(self) -> None:
        held, port = sockets.hold_port()
        with held, socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("0.0.0.0", port))
            server.listen()
            held.close()
            with socket.create_connection(("127.0.0.1", port), timeout=10):
                pass

    def test_held_ports_are_all_different(self) -> None:
        held = [sockets.hold_port() for _ in range(50)]
        assert len({port for _, port in held}) == 50
        for sock, _ in held:
            sock.close()

    def test_a_vanished_machine_is_noticed_within_a_minute(self) -> None:
        with socket.socket() as sock:
            sockets.keep_alive(sock)
            seen = [
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert seen[0] + seen[1] * seen[2] == 60


class TestDescriptors:
    @pytest.fixture(autouse=True)
    def _restored(self):
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        yield
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    def test_the_soft_limit_is_raised_when_needed(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        sockets.make_room(1024)
        soft, after = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft > 1024
        assert after == hard

    def test_it_stays_where_it_suffices(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        sockets.make_room(2)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1024

    def test_a_hard_limit_that_is_too_low_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
        with pytest.raises(EnvironmentNotAble, match=r"1024 ranks.*ulimit -Hn 1024"):
            sockets.make_room(1024)
