"""Ranks as threads of one process: they meet, talk, break and leave."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.distribute import first_rank, wire
from harness.distribute.meeting import meeting_ports
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble
from tests.unit.gang_helpers import (
    WAIT_S,
    Ranks,
    _connected,
    _joined,
    messages,
    place,
    ranks,
    together,
)

__all__ = ["ranks"]  # a fixture, found by its name


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


SIZE = 1024
MANY_WAIT_S = 4 * WAIT_S
"""All of them are in this process, and each reads the list of all."""


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
            assert first.gather_byes(MANY_WAIT_S) == ()
            assert {heard.get_nowait() for _ in range(SIZE - 1)} == {
                (rank, -rank) for rank in range(1, SIZE)
            }
            first.dismiss()
            assert others.result(MANY_WAIT_S) == ["over"] * (SIZE - 1)
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
