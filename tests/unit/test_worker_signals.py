"""Stop signals: of one process, of a rank that leaves them to the first, and of the first."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness.errors import StoppedEarly
from harness.worker import signals
from harness.worker.signals import SIGNALS, StopSignals

WAIT_S = 60.0


class Heard:
    """What a process has said, and to whom."""

    def __init__(self) -> None:
        self.left: queue.Queue[str] = queue.Queue()
        self.said: queue.Queue[str] = queue.Queue()
        self.forwarded: queue.Queue[tuple[str, bool]] = queue.Queue()

    def forward(self, name: str, hurries: bool) -> None:
        self.forwarded.put((name, hurries))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(autouse=True)
def handlers_are_given_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@contextmanager
def no_mercy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every second Ctrl-C is one of its own."""
    with monkeypatch.context() as patch:
        patch.setattr(signals, "_SECOND_AFTER_S", 0.0)
        yield


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    # The C handler has run; Python's runs at the next opportunity of the main thread.
    for _ in range(3):
        time.sleep(0)


class TestOneProcess:
    def test_before_the_first_step_it_leaves_at_once(self, heard: Heard) -> None:
        with StopSignals(heard.left.put, heard.said.put) as stop:
            send(signal.SIGTERM)
            assert heard.left.get(timeout=WAIT_S) == "SIGTERM"
            assert stop.requested == "SIGTERM"

    def test_after_it_the_loop_hears_of_it(self, heard: Heard) -> None:
        with StopSignals(heard.left.put, heard.said.put) as stop:
            stop.stepped()
            assert stop.requested is None
            send(signal.SIGUSR2)
            assert heard.said.get(timeout=WAIT_S) == "SIGUSR2: saves at the next step, then stops"
            assert stop.requested == "SIGUSR2"
        assert heard.left.empty()

    def test_a_second_ctrl_c_leaves(self, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
        with no_mercy(monkeypatch), StopSignals(heard.left.put, heard.said.put) as stop:
            stop.stepped()
            send(signal.SIGINT)
            heard.said.get(timeout=WAIT_S)
            send(signal.SIGINT)
            assert heard.left.get(timeout=WAIT_S) == "second SIGINT"

    def test_one_that_lives_on_raises_in_its_main_thread(self, heard: Heard) -> None:
        def live_on() -> None:
            with StopSignals(None, heard.said.put):
                send(signal.SIGTERM)
                threading.Event().wait(WAIT_S)

        with pytest.raises(StoppedEarly, match="stopped by SIGTERM"):
            live_on()


class TestAnotherRank:
    """It leaves every signal to rank 0 and goes on, so that all stop at the same step."""

    @pytest.mark.parametrize("stepped", [False, True])
    def test_it_tells_and_goes_on(self, heard: Heard, stepped: bool) -> None:
        with StopSignals(None, heard.said.put, heard.forward) as stop:
            if stepped:
                stop.stepped()
            send(signal.SIGTERM)
            assert heard.forwarded.get(timeout=WAIT_S) == ("SIGTERM", False)
            assert stop.requested == "SIGTERM"
        assert heard.said.empty()

    def test_every_signal_is_told(self, heard: Heard) -> None:
        with StopSignals(None, heard.said.put, heard.forward) as stop:
            for number in (signal.SIGUSR2, signal.SIGTERM):
                send(number)
                assert heard.forwarded.get(timeout=WAIT_S) == (number.name, False)
            assert stop.requested == "SIGUSR2"

    @pytest.mark.parametrize("stepped", [False, True])
    def test_a_second_ctrl_c_is_told_as_such(
        self, heard: Heard, monkeypatch: pytest.MonkeyPatch, stepped: bool
    ) -> None:
        with (
            no_mercy(monkeypatch),
            StopSignals(None, heard.said.put, heard.forward) as stop,
        ):
            if stepped:
                stop.stepped()
            send(signal.SIGINT)
            assert heard.forwarded.get(timeout=WAIT_S) == ("SIGINT", False)
            send(signal.SIGINT)
            assert heard.forwarded.get(timeout=WAIT_S) == ("SIGINT", True)

    def test_ctrl_c_twice_at_once_is_one_wish(
        self, heard: Heard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A terminal signals the whole group; a launcher passes it on as well."""
        monkeypatch.setattr(signals, "_SECOND_AFTER_S", 2 * WAIT_S)
        with StopSignals(None, heard.said.put, heard.forward):
            for _ in range(2):
                send(signal.SIGINT)
                assert heard.forwarded.get(timeout=WAIT_S) == ("SIGINT", False)


class TestTheFirstRank:
    """:meth:`StopSignals.heard`: what others have received counts as its own."""

    @pytest.mark.parametrize(
        ("stepped", "hears", "left", "said", "requested"),
        [
            (False, [("SIGTERM", False)], ["SIGTERM"], 0, "SIGTERM"),
            (True, [("SIGTERM", False)], [], 1, "SIGTERM"),
            (True, [("SIGTERM", False), ("SIGUSR2", False)], [], 1, "SIGTERM"),
            (True, [("SIGINT", False), ("SIGINT", True)], ["second SIGINT"], 1, "SIGINT"),
            # The other rank had heard of one before that has not come here: the first is first.
            (True, [("SIGINT", True)], [], 1, "SIGINT"),
            (True, [], [], 0, None),
        ],
    )
    def test_table(
        self,
        heard: Heard,
        stepped: bool,
        hears: list[Any],
        left: list[str],
        said: int,
        requested: str | None,
    ) -> None:
        with StopSignals(heard.left.put, heard.said.put) as stop:
            if stepped:
                stop.stepped()
            for one in hears:
                stop.heard(*one)
            assert stop.requested == requested
        assert list(heard.left.queue) == left
        assert heard.said.qsize() == said

    def test_one_wish_that_all_ranks_tell_is_said_once(self, heard: Heard) -> None:
        with StopSignals(heard.left.put, heard.said.put) as stop:
            stop.stepped()
            threads = [
                threading.Thread(target=stop.heard, args=("SIGTERM", False)) for _ in range(8)
            ]
            send(signal.SIGTERM)
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT_S)
            assert stop.requested == "SIGTERM"
            heard.said.get(timeout=WAIT_S)
        assert heard.said.empty()
        assert heard.left.empty()

    @pytest.mark.parametrize("hears", ["a thread", "the same thread"])
    def test_other_ranks_are_heard_while_it_leaves(self, heard: Heard, hears: str) -> None:
        """All ranks get the signal, and the first speaks with the others before it ends."""

        def leave(reason: str) -> None:
            if hears == "a thread":
                other = threading.Thread(target=stop.heard, args=("SIGTERM", False), daemon=True)
                other.start()
                other.join(WAIT_S)
                assert not other.is_alive()
            else:
                stop.heard("SIGTERM", False)
            heard.left.put(reason)

        with StopSignals(leave, heard.said.put) as stop:
            thread = threading.Thread(target=stop.heard, args=("SIGUSR2", False), daemon=True)
            thread.start()
            assert heard.left.get(timeout=WAIT_S) == "SIGUSR2"
        assert heard.left.empty()
