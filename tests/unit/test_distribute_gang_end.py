"""Ranks as threads of one process: they break and leave."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.distribute import first_rank, wire
from harness.distribute.gang import Gang, Lost
from tests.unit.gang_helpers import WAIT_S, Ranks, _joined, messages, place, ranks, together

__all__ = ["ranks"]  # a fixture, found by its name


def losses(gang: Gang) -> queue.Queue[Lost]:
    heard: queue.Queue[Lost] = queue.Queue()
    gang.on_lost(heard.put)
    return heard


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


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
