"""A training that stands still is seen, and the ranks that keep the others are named."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.worker.rhythm import Rhythm
from harness.worker.watchdog import (
    COMPILING,
    SAVES,
    SLOWER,
    Stand,
    Watchdog,
    allowed_s,
    standing,
    verdict,
)

NAMES = [f"rank {number} (node n{number})" for number in range(4)]
STEP, DATA = "loop.py:190 (_take_steps)", "mine.py:7 (load)"


def stands(*places: int, where: dict[int, str] | None = None) -> dict[int, Stand]:
    """Those of the first ranks."""
    theirs = where or {}
    return {
        rank: Stand(n, theirs.get(rank, STEP), rank not in theirs) for rank, n in enumerate(places)
    }


@pytest.mark.parametrize(
    ("names", "found", "said"),
    [
        (NAMES[:1], stands(7), f"it stands at {STEP}"),
        (NAMES[:2], stands(7, 7), f"all stand at {STEP}"),
        (
            NAMES[:2],
            stands(7),
            "rank 1 (node n1) does not answer: it was stopped, or its machine hangs",
        ),
        (
            NAMES,
            {0: Stand(7, STEP, True), 2: Stand(7, STEP, True)},
            "rank 1 (node n1), rank 3 (node n3) does not answer: it was stopped, or its machine "
            "hangs",
        ),
        (
            NAMES[:3],
            stands(7, 6, 7, where={1: DATA}),
            f"rank 1 (node n1) stands at {DATA}; the others wait at {STEP}",
        ),
        (
            NAMES[:3],
            stands(7, 7, 7, where={2: DATA}),
            f"rank 2 (node n2) stands at {DATA}; the others wait at {STEP}",
        ),
        (
            NAMES[:2],
            stands(7, 7, where={0: DATA}),
            f"rank 0 (node n0) stands at {DATA}; the others wait at {STEP}",
        ),
        (NAMES[:2], stands(7, 7, where={0: DATA, 1: DATA}), f"all stand at {DATA}"),
        (
            NAMES[:3],
            {rank: Stand(7, where, True) for rank, where in enumerate((STEP, DATA, STEP))},
            f"rank 1 (node n1) stands at {DATA}; the others wait at {STEP}",
        ),
    ],
)
def test_who_keeps_the_others(names: list[str], found: dict[int, Stand], said: str) -> None:
    assert verdict(names, found) == said


def test_of_very_many_ranks_some_are_named() -> None:
    names = [f"rank {number}" for number in range(1024)]
    said = verdict(names, {0: Stand(1, STEP, True)})
    assert said.startswith("rank 1, rank 2, ")
    assert "and 1015 more" in said
    assert len(said) < 300


@given(st.integers(5, 86400), st.floats(0, 1e4), st.floats(0, 1e4), st.booleans())
def test_what_is_slow_may_take_longer(least_s, longest_s, save_s, compiles) -> None:
    now = 0.0
    rhythm = Rhythm(lambda: now)
    rhythm.begins()
    assert allowed_s(least_s, rhythm, save_s) == COMPILING * least_s
    rhythm.place()
    now = longest_s
    rhythm.place()
    allowed = allowed_s(least_s, rhythm, save_s)
    assert allowed >= max(least_s, SLOWER * longest_s, SAVES * save_s)
    assert allowed in (least_s, pytest.approx(SLOWER * longest_s), pytest.approx(SAVES * save_s))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def hung(rhythm: Rhythm, least_s: float | None, wait_s: float = 5.0) -> bool:
    """Whether a watchdog finds that the process hangs."""
    found = threading.Event()
    with Watchdog(rhythm, least_s, lambda: 0.0, lambda seconds: found.set()):
        return found.wait(wait_s)


def test_it_sees_that_nothing_is_done() -> None:
    clock = Clock()
    rhythm = Rhythm(clock)
    rhythm.begins()
    rhythm.place()
    clock.now = 0.6
    assert hung(rhythm, 0.5)


def test_it_waits_for_the_first_phase_and_for_a_compilation_and_can_be_off() -> None:
    clock = Clock()
    rhythm = Rhythm(clock)
    clock.now = 1e6
    assert not hung(rhythm, 0.5, 0.2), "data are looked through"
    rhythm.begins()
    clock.now += 0.5 * COMPILING - 0.1
    assert not hung(rhythm, 0.5, 0.2)
    clock.now += 0.2
    assert not hung(rhythm, None, 0.2)
    assert hung(rhythm, 0.5)


def test_time_in_which_the_process_did_not_run_is_forgiven() -> None:
    clock = Clock()
    rhythm = Rhythm(clock)
    rhythm.begins()
    rhythm.place()
    clock.now = 3600.0
    rhythm.forgive(3590.0)
    assert rhythm.since_s == 10.0
    rhythm.place()
    assert rhythm.longest_s == 10.0


def test_where_the_main_thread_stands() -> None:
    found: list[Stand] = []
    thread = threading.Thread(target=lambda: found.append(standing(Rhythm())))
    thread.start()
    thread.join()
    assert found[0].places == 0
    # It waits in the standard library, for the thread that has looked.
    assert found[0].where.startswith("threading.py:")
    assert not found[0].ours
