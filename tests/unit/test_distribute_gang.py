"""Ranks as threads of one process: they meet, talk, break and leave."""

from __future__ import annotations

import asyncio
import os
import queue
import resource
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.distribute import first_rank, wire
from harness.distribute.gang import Gang, Lost
from harness.distribute.meeting import meeting_ports
from harness.distribute.sockets import listen
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


def losses(gang: Gang) -> queue.Queue[Lost]:
    heard: queue.Queue[Lost] = queue.Queue()
    gang.on_lost(heard.put)
    return heard


def messages(gang: Gang, kind: str) -> queue.Queue[tuple[int, Any]]:
    heard: queue.Queue[tuple[int, Any]] = queue.Queue()
    gang.on(kind, lambda rank, data: heard.put((rank, data)))
    return heard


def together(*calls: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [one.result(WAIT_S) for one in [pool.submit(call) for call in calls]]


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


class TestMeeting:
    def test_all_know_all(self, ranks: Ranks) -> None:
        gangs = ranks.met(4, facts=lambda rank: {"port": 5000 + rank})
        assert [gang.rank for gang in gangs] == [0, 1, 2, 3]
        assert {gang.size for gang in gangs} == {4}
        members = gangs[0].members
        assert [gang.members for gang in gangs] == [members] * 4
        assert [one.rank for one in members] == [0, 1, 2, 3]
        assert [one.facts["port"] for one in members] == [5000, 5001, 5002, 5003]
        assert {one.pid for one in members} == {os.getpid()}
        assert {one.host for one in members} == {socket.gethostname()}
        assert {one.address for one in members} == {"127.0.0.1"}

    def test_one_rank_is_a_gang_too(self, ranks: Ranks) -> None:
        (gang,) = ranks.met(1)
        heard = messages(gang, "note")
        gang.tell("note", 1)
        gang.announce("note", 2)
        assert gang.leave() is None
        assert heard.get_nowait() == (0, 1)
        assert heard.empty()

    def test_rank_0_may_be_the_last_to_come(self, ranks: Ranks) -> None:
        with ThreadPoolExecutor(1) as pool:
            early = pool.submit(ranks.rank, place(1, 2))
            other = Ranks()
            other.met(2)[1].close()  # some time passes
            assert not early.done()
            first = ranks.rank(place(0, 2))
            assert early.result(WAIT_S).members == first.members
        for gang in other.gangs:
            gang.close()

    def test_ranks_on_several_nodes_meet_on_all_interfaces(self, ranks: Ranks) -> None:
        hosts = ("n1", "n2")
        places = [Topology(rank, 2, "srun", 0, 1, rank, 2, hosts) for rank in range(2)]
        gangs = ranks.outcomes(*places, addresses=["no-such-host.invalid", "::1", "127.0.0.1"])
        assert [one.node for one in gangs[1].members] == ["n1", "n2"]

    def test_those_who_never_came_are_named_to_all_who_did(self, ranks: Ranks) -> None:
        places = [place(rank, 8) for rank in (0, 1, 2, 4)]
        errors = ranks.outcomes(*places, wait_s=2.0)
        assert len({str(error) for error in errors}) == 1
        assert "ranks 3, 5-7 did not come within 2 s, got ranks 0-2, 4" in str(errors[0])
        assert errors[0].exit_code == 3
        assert "waits for ranks 3, 5-7, at most 2 s" in ranks.said

    def test_a_rank_0_that_never_came_is_named_with_the_places(self, ranks: Ranks) -> None:
        (error,) = ranks.outcomes(place(1, 2), wait_s=0.5)
        assert "did not find rank 0 (node 0) within 0.5 s" in str(error)
        assert "127.0.0.1: Connection refused (16x)" in str(error)
        assert all(str(port) in str(error) for port in meeting_ports(ranks.key))

    def test_a_rank_claimed_twice_names_both(self, ranks: Ranks) -> None:
        places = [place(rank, 3) for rank in (0, 1, 1)]
        errors = ranks.outcomes(*places)
        assert len({str(error) for error in errors}) == 1
        assert "two processes are rank 1" in str(errors[0])
        assert str(errors[0]).count(f"pid {os.getpid()}") == 2

    def test_a_second_rank_0_does_not_break_the_first(self, ranks: Ranks) -> None:
        """It finds another port; the others go to one of them, and the error names who lacks."""
        errors = ranks.outcomes(place(0, 2), place(0, 2), wait_s=1.0)
        assert all("rank 1 did not come" in str(error) for error in errors)

    def test_facts_that_must_agree_and_do_not(self, ranks: Ranks) -> None:
        places = [place(rank, 3) for rank in range(3)]
        facts = {0: "2.21", 1: "2.20", 2: "2.21"}.get
        errors = ranks.outcomes(*places, facts=lambda rank: {"tf": facts(rank)}, same=["tf"])
        assert len({str(error) for error in errors}) == 1
        assert '"2.21" on ranks 0, 2 (node 0); "2.20" on rank 1 (node 0)' in str(errors[0])

    def test_a_rank_that_ends_while_others_are_waited_for(self, ranks: Ranks) -> None:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ranks.rank, place(0, 3))
            sock, session = _joined(ranks.key, 1, 3)
            sock.close()
            with pytest.raises(EnvironmentNotAble, match=r"rank 1 .* ended before all ranks"):
                first.result(WAIT_S)
        assert session

    def test_a_fact_that_is_no_json_or_too_long_is_refused_at_once(self, ranks: Ranks) -> None:
        with pytest.raises(TypeError):
            ranks.rank(place(1, 2), facts={"a": object()})
        with pytest.raises(ValueError, match="facts must be shorter"):
            ranks.rank(place(1, 2), facts={"a": "x" * wire.JOIN_LIMIT})

    def test_keys_keep_two_starts_on_the_same_ports_apart(
        self, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ports = meeting_ports(ranks.key)
        monkeypatch.setattr(first_rank, "meeting_ports", lambda key: ports)
        monkeypatch.setattr("harness.distribute.finding.meeting_ports", lambda key: ports)
        other = Ranks()
        mine, theirs = together(
            lambda: ranks.met(3, facts=lambda rank: {"of": "mine"}),
            lambda: other.met(3, facts=lambda rank: {"of": "theirs"}),
        )
        assert {one.facts["of"] for one in mine[2].members} == {"mine"}
        assert {one.facts["of"] for one in theirs[2].members} == {"theirs"}
        for gang in other.gangs:
            gang.close()


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


def _connected(key: str) -> socket.socket:
    """A connection to rank 0, which may not listen yet."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", meeting_ports(key)[0]), timeout=WAIT_S)
        except ConnectionRefusedError:
            assert time.monotonic() < end, "rank 0 does not listen"
            time.sleep(0.01)


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


class TestTalking:
    def test_messages_reach_rank_0_in_order(self, ranks: Ranks) -> None:
        gangs = ranks.met(3)
        heard = messages(gangs[0], "corrupt")
        for number in range(50):
            for gang in gangs:
                gang.tell("corrupt", {"number": number})
        got = [heard.get(timeout=WAIT_S) for _ in range(150)]
        for rank in range(3):
            mine = [data["number"] for sender, data in got if sender == rank]
            assert mine == list(range(50))

    def test_announcements_reach_all_others(self, ranks: Ranks) -> None:
        gangs = ranks.met(3)
        heard = [messages(gang, "news") for gang in gangs]
        gangs[0].announce("news", ["a", 1])
        assert [one.get(timeout=WAIT_S) for one in heard[1:]] == [(0, ["a", 1])] * 2
        assert heard[0].empty()

    def test_what_comes_before_its_handler_waits_for_it(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)
        gangs[1].tell("early", 1)
        gangs[1].tell("other", 2)
        gangs[1].tell("early", 3)
        assert messages(gangs[0], "other").get(timeout=WAIT_S) == (1, 2)
        heard = messages(gangs[0], "early")
        assert [heard.get(timeout=WAIT_S) for _ in range(2)] == [(1, 1), (1, 3)]

    def test_a_long_message_does_not_hold_up_its_sender(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)
        free = threading.Event()
        gangs[0].on("big", lambda rank, data: free.wait(WAIT_S) and None)
        text = "x" * 5_000_000
        for _ in range(3):
            gangs[1].tell("big", text)
        heard = messages(gangs[0], "after")
        gangs[1].tell("after", 1)
        free.set()
        assert heard.get(timeout=WAIT_S) == (1, 1)

    def test_a_handler_that_raises_is_told_and_ends_nothing(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)
        gangs[0].on("bad", lambda rank, data: 1 / data)
        heard = messages(gangs[0], "good")
        gangs[1].tell("bad", 0)
        gangs[1].tell("good", 1)
        assert heard.get(timeout=WAIT_S) == (1, 1)
        assert any("ZeroDivisionError" in text and "rank 1" in text for text in ranks.said)

    def test_what_is_no_json_is_refused_where_it_is_told(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)
        for call in (gangs[0].announce, gangs[1].tell, gangs[0].tell):
            with pytest.raises(TypeError):
                call("x", object())

    def test_only_rank_0_speaks_to_all(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)
        with pytest.raises(AssertionError, match="only rank 0"):
            gangs[1].announce("x", 1)


class TestBreaking:
    def test_a_rank_that_ends_without_a_word(self, ranks: Ranks) -> None:
        gangs = ranks.met(3)
        heard = [losses(gang) for gang in gangs]
        gangs[2].close()
        lost = heard[0].get(timeout=WAIT_S)
        assert (lost.rank, lost.message, lost.exit_code) == (2, None, None)
        assert lost.name == gangs[0].members[2].name
        gangs[0].break_up(lost)
        assert heard[1].get(timeout=WAIT_S) == lost == gangs[1].lost == gangs[0].lost
        assert heard[2].empty()

    def test_a_rank_that_fails_waits_until_rank_0_has_written_it_down(self, ranks: Ranks) -> None:
        gangs = ranks.met(3)
        heard = losses(gangs[1])
        told: list[Lost] = []
        written = threading.Event()

        def account(lost: Lost) -> None:
            told.append(lost)
            written.wait(WAIT_S)
            gangs[0].break_up(lost)

        gangs[0].on_lost(account)
        others = losses(gangs[2])
        with ThreadPoolExecutor(1) as pool:
            failing = pool.submit(gangs[2].failed, "the loss is nan", 1, WAIT_S)
            eventually(lambda: bool(told))
            assert not failing.done()
            written.set()
            failing.result(WAIT_S)
        assert (told[0].rank, told[0].message, told[0].exit_code) == (2, "the loss is nan", 1)
        assert heard.get(timeout=WAIT_S) == told[0]
        assert others.empty(), "one that knows why it leaves is not told"

    def test_rank_0_notes_without_breaking_up(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)
        heard = losses(gangs[0])
        together(lambda: gangs[1].failed("x", 4, WAIT_S))
        assert heard.get(timeout=WAIT_S).exit_code == 4

    def test_a_death_without_a_word_explains_the_errors_of_others(self, ranks: Ranks) -> None:
        gangs = ranks.met(4)
        heard = losses(gangs[0])
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(gangs[1].failed, "connection reset by peer", 1, WAIT_S)
            two = pool.submit(gangs[0].failed, "connection reset by peer", 1, WAIT_S)
            eventually(lambda: len(gangs[0]._side._accused) == 2)  # type: ignore[union-attr]
            gangs[3].close()
            lost = heard.get(timeout=WAIT_S)
            one.result(WAIT_S)
            two.result(WAIT_S)
        assert (lost.rank, lost.message) == (3, None)
        assert set(lost.also) == {gangs[0].members[0].name, gangs[0].members[1].name}
        assert heard.empty(), "a gang breaks once"

    def test_rank_0_fails_itself(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)
        heard = losses(gangs[1])
        gangs[0].on_lost(gangs[0].break_up)
        gangs[0].failed("no space left", 5, WAIT_S)
        lost = heard.get(timeout=WAIT_S)
        assert (lost.rank, lost.message, lost.exit_code) == (0, "no space left", 5)

    def test_rank_0_ends_without_a_word(self, ranks: Ranks) -> None:
        gangs = ranks.met(3)
        heard = [losses(gang) for gang in gangs[1:]]
        gangs[0].close()
        for one in heard:
            lost = one.get(timeout=WAIT_S)
            assert (lost.rank, lost.message) == (0, None)
            assert lost.name == gangs[1].members[0].name

    def test_a_loss_waits_for_its_handler(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)
        gangs[1].close()
        eventually(lambda: gangs[0].lost is not None)
        assert losses(gangs[0]).get(timeout=WAIT_S).rank == 1

    def test_a_failed_report_does_not_wait_for_ever(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)  # rank 0 has no handler, so it never takes note
        gangs[1].failed("x", 1, 0.2)
        eventually(lambda: gangs[0].lost is not None)

    def test_an_altered_line_ends_the_connection(self, ranks: Ranks) -> None:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ranks.rank, place(0, 2))
            sock, session = _joined(ranks.key, 1, 2)
            gang = first.result(WAIT_S)
            heard = messages(gang, "x")
            good = b"".join(session.seal(wire.encode("say", "x", 1)))
            sock.sendall(good.replace(b"1]", b"2]"))
            assert "not sealed" in losses(gang).get(timeout=WAIT_S).how
            sock.close()
        assert heard.empty()


class TestLeaving:
    def test_all_leave_together(self, ranks: Ranks) -> None:
        gangs = ranks.met(4)
        heard = [losses(gang) for gang in gangs]
        assert together(*(gang.leave for gang in gangs)) == [None] * 4
        assert all(one.empty() for one in heard)

    def test_rank_0_writes_while_all_others_have_ended_and_wait(self, ranks: Ranks) -> None:
        gangs = ranks.met(3)
        heard = messages(gangs[0], "last")
        with ThreadPoolExecutor(2) as pool:
            for gang in gangs[1:]:
                gang.tell("last", gang.rank)
            leaving = [pool.submit(gang.leave) for gang in gangs[1:]]
            assert gangs[0].gather_byes() == ()
            assert heard.qsize() == 2, "what was told before is handled before"
            assert not any(one.done() for one in leaving)
            gangs[0].dismiss()
            assert [one.result(WAIT_S) for one in leaving] == [None, None]

    def test_those_who_do_not_say_bye_are_named(
        self, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(first_rank, "_SAY_AFTER_S", 0.1)
        gangs = ranks.met(4)
        with ThreadPoolExecutor(1) as pool:
            leaving = pool.submit(gangs[2].leave)
            missing = gangs[0].gather_byes(0.5)
            assert {1, 3} <= {one.rank for one in missing}
            assert any(text.startswith("waits for ranks 1") for text in ranks.said)
            gangs[0].dismiss()
            leaving.result(WAIT_S)

    def test_one_that_dies_instead_of_leaving_breaks_the_gang(self, ranks: Ranks) -> None:
        gangs = ranks.met(3)
        heard = losses(gangs[0])
        with ThreadPoolExecutor(1) as pool:
            leaving = pool.submit(gangs[1].leave)
            gangs[2].close()
            missing = gangs[0].gather_byes()
            assert 2 in {one.rank for one in missing}
            lost = heard.get(timeout=WAIT_S)
            gangs[0].break_up(lost)
            assert leaving.result(WAIT_S) == lost

    def test_one_that_ends_after_its_bye_is_not_lost(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)
        heard = losses(gangs[0])
        assert gangs[1].leave(0.1).rank == 0, "rank 0 was waited for in vain"  # type: ignore[union-attr]
        assert gangs[0].gather_byes() == ()
        gangs[0].dismiss()
        assert heard.empty()

    def test_rank_0_that_dies_before_it_lets_go_is_lost(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)
        heard = losses(gangs[1])
        with ThreadPoolExecutor(1) as pool:
            leaving = pool.submit(gangs[1].leave)
            gangs[0].gather_byes()
            gangs[0].close()
            lost = leaving.result(WAIT_S)
        assert lost == heard.get(timeout=WAIT_S)
        assert lost.rank == 0

    def test_no_thread_and_no_socket_is_left(self, ranks: Ranks) -> None:
        before = descriptors()
        gangs = ranks.met(3)
        together(*(gang.leave for gang in gangs))
        eventually(lambda: not any("gang" in one.name for one in threading.enumerate()))
        eventually(lambda: descriptors() <= before)

    def test_a_forked_child_does_not_keep_the_connection(self, ranks: Ranks) -> None:
        gangs = ranks.met(2)
        heard = losses(gangs[0])
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(reader, 1)  # stays until the test is over
            os._exit(0)
        try:
            gangs[1].close()
            assert heard.get(timeout=WAIT_S).rank == 1
        finally:
            os.write(writer, b"x")
            os.waitpid(child, 0)
            os.close(reader)
            os.close(writer)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


SIZE = 1024


@pytest.mark.skipif(
    0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 3 * SIZE and not os.environ.get("CI"),
    reason="both ends of 1,024 connections in one process: ulimit -Hn 4096",
)
def test_a_thousand_ranks_meet_talk_and_leave(ranks: Ranks) -> None:
    """One real rank 0; the others are coroutines that speak the protocol."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3 * SIZE), hard))
    try:
        with ThreadPoolExecutor(1) as pool:
            others = pool.submit(asyncio.run, _others(ranks.key))
            first = ranks.rank(place(0, SIZE))
            heard = messages(first, "hello")
            assert [member.rank for member in first.members] == list(range(SIZE))
            assert first.gather_byes(WAIT_S) == ()
            assert {heard.get_nowait() for _ in range(SIZE - 1)} == {
                (rank, -rank) for rank in range(1, SIZE)
            }
            first.dismiss()
            assert others.result(WAIT_S) == ["over"] * (SIZE - 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _others(key: str) -> list[str]:
    with _connected(key):
        pass  # rank 0 listens
    return list(await asyncio.gather(*(_other(key, rank) for rank in range(1, SIZE))))


async def _other(key: str, rank: int) -> str:
    from harness.distribute.members import Member

    port = meeting_ports(key)[0]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=wire.LINE_LIMIT)
    hello, nonce = wire.hello()
    writer.write(hello)
    answer = (await reader.readline())[:-1]
    session = wire.check_answer(wire.token_of(key), nonce, answer, port)
    member = Member.of(place(rank, SIZE), "h", rank, {"port": rank}).to_json()
    writer.writelines(session.seal(wire.encode("join", member, "127.0.0.1")))
    kind, members = session.open((await reader.readline())[:-1])
    assert (kind, len(members)) == ("members", SIZE)
    writer.writelines(session.seal(wire.encode("say", "hello", -rank)))
    writer.writelines(session.seal(wire.encode("bye")))
    kind, *_ = session.open((await reader.readline())[:-1])
    writer.close()
    return str(kind)
