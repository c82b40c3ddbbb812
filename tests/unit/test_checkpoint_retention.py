"""Which checkpoints stay: pure, the same whatever was removed before, and in the store."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from checkpoint_helpers import flip_bit, new_store
from hypothesis import given
from hypothesis import strategies as st

from harness.checkpoint import Store, store
from harness.checkpoint.retention import Periods, steps_to_keep
from tests.unit.checkpoint_store_helpers import steps

HOUR = 3600.0

# Checkpoints in the order of their steps; clocks may stand still or be set back.
gaps = st.lists(st.one_of(st.floats(0, 5e4), st.floats(-5e4, 0)), min_size=1, max_size=30)
forward = st.lists(st.floats(0, 5e4), min_size=1, max_size=30)
periods = st.builds(Periods, every_s=st.floats(1, 2e4), began_s=st.just(0.0))


def made(distances: list[float]) -> list[tuple[int, float]]:
    """Step and time of checkpoints that lie so far apart."""
    return [(10 * n, math.fsum(distances[: n + 1])) for n in range(len(distances))]


@given(gaps, st.integers(1, 5), st.none() | periods, st.sets(st.integers(0, 300)))
def test_the_newest_and_the_asked_for_always_stay(distances, newest, every, also):
    times = made(distances)
    there = {step for step, _ in times}
    kept = steps_to_keep(times, newest, also, every)
    assert kept <= there
    assert set(sorted(there)[-newest:]) <= kept
    assert also & there <= kept


@given(forward, st.integers(1, 5), periods, st.sets(st.integers(0, 300), max_size=1))
def test_no_more_stay_than_there_are_periods(distances, newest, every, also):
    times = made(distances)
    most = math.floor(times[-1][1] / every.every_s) + 1e-9
    assert len(steps_to_keep(times, newest, also, every)) <= newest + most + len(also)
    chosen = sorted(every.chosen(times))
    at = dict(times)
    for before, after in pairwise(chosen):
        assert at[after] - at[before] >= every.every_s
    assert not chosen or at[chosen[0]] >= every.every_s


@given(gaps, st.integers(1, 5), periods, st.sets(st.integers(0, 300), max_size=2))
def test_what_stays_would_stay_again(distances, newest, every, also):
    times = made(distances)
    kept = steps_to_keep(times, newest, also, every)
    left = [(step, time) for step, time in times if step in kept]
    assert steps_to_keep(left, newest, also, every) == kept


@given(gaps, st.integers(1, 4), periods)
def test_removing_at_each_save_keeps_what_one_look_at_all_would(distances, newest, every):
    """So a restart, which only sees what is left, changes nothing."""
    times, left = made(distances), []
    for one in times:
        left.append(one)
        kept = steps_to_keep(left, newest, (), every)
        left = [(step, time) for step, time in left if step in kept]
    assert {step for step, _ in left} == steps_to_keep(times, newest, (), every)


@given(gaps, periods, st.randoms())
def test_the_order_in_which_they_are_listed_does_not_matter(distances, every, random):
    times = made(distances)
    mixed = random.sample(times, len(times))
    assert steps_to_keep(mixed, 2, (), every) == steps_to_keep(times, 2, (), every)


def test_the_convention_is_that_of_checkpoint_manager():
    every = Periods(HOUR, 0.0)
    times = [(n, n * 0.4 * HOUR) for n in range(1, 11)]
    # 1.2 h after the beginning, then each an hour or more after the one before.
    assert every.chosen(times) == {3, 6, 9}
    assert steps_to_keep(times, 1, (), every) == {3, 6, 9, 10}
    assert steps_to_keep(times, 1) == {10}


def test_a_wait_in_the_queue_is_one_period_long():
    times = [(1, 0.5 * HOUR), (2, 30 * HOUR), (3, 30.5 * HOUR), (4, 31 * HOUR)]
    assert Periods(HOUR, 0.0).chosen(times) == {2, 4}


def test_one_whose_time_is_unknown_stays_where_it_might_matter():
    times = [(1, None), (2, HOUR / 2), (3, HOUR / 2)]
    assert steps_to_keep(times, 1, (), Periods(HOUR, 0.0)) == {1, 3}
    assert steps_to_keep(times, 1) == {3}


@pytest.mark.parametrize("newest", [0, -1])
def test_none_newest_is_refused(newest):
    with pytest.raises(ValueError, match="at least 1"):
        steps_to_keep([(1, 0.0)], newest)


@pytest.mark.parametrize("every_s", [0.0, -1.0, math.nan])
def test_a_period_of_no_length_is_refused(every_s):
    with pytest.raises(ValueError, match="above 0"):
        Periods(every_s, 0.0)


def test_the_store_keeps_one_an_hour_over_restarts(tmp_path, monkeypatch):
    """A store of its own for each save, as with a restart each time."""
    for n in range(1, 11):
        time = f"2026-11-22T{n * 24 // 60:02}:{n * 24 % 60:02}:00.000Z"
        monkeypatch.setattr(store, "utc_now", lambda time=time: time)
        periods = Periods(HOUR, store.parse_time("2026-11-22T00:00:00.000Z").timestamp())
        kept = Store(tmp_path, keep=2, access="private", log=print, periods=periods)
        kept.save(n, {}, {}, keep_steps={4})
    assert steps(kept) == [3, 4, 6, 9, 10]


def test_one_whose_manifest_cannot_be_read_is_not_removed_for_its_age(tmp_path):
    new_store(tmp_path)[0].save(1, {}, {})
    flip_bit(tmp_path / "step-00000001" / "manifest.json", 80)
    kept, said = new_store(tmp_path, keep=1)
    kept.periods = Periods(100 * 365 * 24 * HOUR, 0.0)
    for step in (2, 3, 4):
        kept.save(step, {}, {})
    assert steps(kept) == [1, 4]
    assert sum("step-00000001 stays, its time cannot be read" in line for line in said) == 1
