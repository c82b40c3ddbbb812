"""A run that knows when its time is over stops while it can still save."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.worker.deadline import LEAST_S, UNKNOWN_SAVE_S, Deadline, job_end, needed_s
from harness.worker.rhythm import Rhythm

SECONDS = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("environment", "end"),
    [
        ({}, None),
        ({"HARNESS_JOB_END": "1795838305"}, 1795838305.0),
        ({"SLURM_JOB_END_TIME": "1795838305"}, 1795838305.0),
        ({"HARNESS_JOB_END": "1795838305", "SLURM_JOB_END_TIME": "1"}, 1795838305.0),
        ({"HARNESS_JOB_END": "", "SLURM_JOB_END_TIME": "17"}, 17.0),
        ({"HARNESS_JOB_END": "NONE"}, None),
        ({"HARNESS_JOB_END": "-5"}, None),
        ({"HARNESS_JOB_END": "²"}, None),
    ],
)
def test_when_the_job_ends(environment: dict[str, str], end: float | None) -> None:
    assert job_end(environment) == end


@given(SECONDS, SECONDS, st.one_of(st.none(), SECONDS))
def test_what_is_needed_grows_with_what_was_measured(longest, more, save) -> None:
    known = UNKNOWN_SAVE_S if save is None else save
    assert needed_s(longest, save) >= LEAST_S + longest + known
    assert needed_s(longest + more, save) >= needed_s(longest, save)
    assert needed_s(longest, known + more) >= needed_s(longest, save)


class Clock:
    """A time that goes on only when it is asked."""

    def __init__(self, *times: float) -> None:
        self._times = list(times)

    def __call__(self) -> float:
        return self._times.pop(0) if len(self._times) > 1 else self._times[0]


def asked(end: float | None, now: Callable[[], float], needs: float = 30.0) -> str | None:
    """What a deadline asks for within a second; None: nothing."""
    heard, said = threading.Event(), []

    def ask(reason: str) -> None:
        said.append(reason)
        heard.set()

    with Deadline(end, lambda: needs, ask, now=now, every_s=0.01):
        heard.wait(0.3 if end is None or end < 1000 else 5)
    assert len(said) <= 1
    return said[0] if said else None


def test_it_asks_once_there_is_no_more_time_than_is_needed() -> None:
    assert asked(1000, Clock(900, 950, 969, 970.4)) == "its time limit, in 30 s"
    assert asked(1000, Clock(900, 2000)) == "its time limit, in 0 s"


def test_it_asks_nothing_where_no_end_is_known_or_it_has_passed() -> None:
    """A stale value, as in a shell that was begun in another job, ends nothing."""
    assert asked(None, Clock(5)) is None
    assert asked(999, Clock(1000)) is None


def test_nothing_is_asked_before() -> None:
    assert asked(900, Clock(100)) is None


def test_a_rhythm_measures_what_lies_between_two_places_but_no_compilation() -> None:
    now = 0.0
    rhythm = Rhythm(lambda: now)
    assert rhythm.longest_s == 0.0
    assert rhythm.compiles
    for now in (40.0, 41.0, 43.5, 44.0):  # noqa: B007 - the clock reads it
        rhythm.place()
    assert (rhythm.longest_s, rhythm.places, rhythm.compiles) == (2.5, 4, False)
    now = 46.0
    assert rhythm.since_s == 2.0
    rhythm.begins()
    assert rhythm.compiles
    now = 90.0
    rhythm.place()
    now = 91.0
    rhythm.place()
    assert rhythm.longest_s == 2.5


@given(st.lists(st.floats(0.01, 1e3), min_size=1, max_size=300))
def test_what_was_slow_long_ago_is_forgotten(lengths: list[float]) -> None:
    now = 0.0
    rhythm = Rhythm(lambda: now)
    rhythm.place()
    for length in lengths:
        now += length
        rhythm.place()
    assert rhythm.longest_s == pytest.approx(max(lengths[-64:]))
