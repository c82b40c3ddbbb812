"""The record, the marks and the times of a run."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_helpers import make_run

from harness.errors import StorageError
from harness.runs.attempts import begin_attempt, read_attempts
from harness.runs.clock import format_time, parse_time, seconds_since, words_for
from harness.runs.files import to_json, write_atomic
from harness.runs.heartbeat import read_heartbeat, write_heartbeat
from harness.runs.ids import looks_like_run_id, new_run_id
from harness.runs.marks import mark_finished
from harness.runs.paths import RunPaths
from harness.runs.record import read_record, update_record, write_record
from harness.runs.state import run_state
from tests.unit.runs_state_helpers import OLD, facts, paths

__all__ = ["paths"]  # a fixture, found by its name


def test_a_heartbeat_that_is_not_finite_is_null(paths):
    write_heartbeat(paths, loss=float("nan"), step=3)
    beat = read_heartbeat(paths)
    assert beat["loss"] is None and beat["step"] == 3 and beat["pid"] == os.getpid()


@given(first=facts, second=facts)
def test_the_record_comes_back_and_keeps_what_is_not_set(tmp_path_factory, first, second):
    paths = RunPaths(tmp_path_factory.mktemp("run"))
    first.pop("harness_run", None)
    second.pop("harness_run", None)
    write_record(paths, first)
    assert read_record(paths) == {"harness_run": 1, **first}
    assert (
        update_record(paths, **second)
        == read_record(paths)
        == {"harness_run": 1, **first, **second}
    )


def test_nan_never_gets_into_the_record(paths):
    before = paths.record.read_bytes()
    with pytest.raises(ValueError):
        update_record(paths, final={"test_loss": float("nan")})
    assert paths.record.read_bytes() == before


def test_a_record_of_a_later_version_is_refused(paths):
    paths.record.write_text('{"harness_run": 2, "harness_version": "9.0"}')
    with pytest.raises(StorageError, match=r"another version.*harness_run 2.*9\.0"):
        read_record(paths)


@given(st.datetimes(min_value=parse_time("1990-01-01T00:00:00Z").replace(tzinfo=None)))
def test_times_come_back_to_the_millisecond_and_sort_as_text(when):
    when = when.replace(tzinfo=parse_time(OLD).tzinfo)
    text = format_time(when)
    assert 0 <= (when - parse_time(text)).total_seconds() < 0.001
    assert (text <= OLD) == (parse_time(text) <= parse_time(OLD))


def test_seconds_since_in_another_zone():
    assert seconds_since("2026-11-22T02:00:00+01:00", parse_time("2026-11-22T01:00:30Z")) == 30


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (4.4, "4 s"),
        (99, "99 s"),
        (150, "2 min"),
        (3600 * 3.5, "3.5 h"),
        (86400 * 9, "9.0 days"),
    ],
)
def test_lengths_for_people(seconds, words):
    assert words_for(seconds) == words


def test_run_ids():
    now = parse_time("2026-11-22T02:33:55+01:00")
    ids = {new_run_id(now) for _ in range(50)}
    assert len(ids) == 50 and all(i.startswith("20261122-013355-") for i in ids)
    assert all(map(looks_like_run_id, ids)) and not looks_like_run_id("20261122-013355")


def test_every_name_is_below_the_root(tmp_path):
    paths = RunPaths(tmp_path / "a" / ".." / "run")
    assert paths.root == tmp_path / "run"
    names = [getattr(paths, n) for n, v in vars(RunPaths).items() if isinstance(v, property)]
    names += [paths.checkpoint(1200), paths.outcome(3)]
    assert len(names) == len(set(names)) > 15
    assert all(name.is_relative_to(paths.root) and name != paths.root for name in names)
    assert paths.checkpoint(1200).name == "step-00001200"


def test_a_mark_keeps_its_figures(paths):
    mark_finished(paths, attempt=3, step=7, total_steps=7)
    state = run_state(paths)
    assert (state.attempt, state.step, state.total_steps) == (3, 7, 7)


def test_outcome_files_stay_bounded_and_what_they_alone_tell_is_kept(tmp_path):
    paths = make_run(tmp_path)
    for number in range(1, 31):
        assert begin_attempt(paths, {}) == number
        # by the batch script, for a process that was killed
        write_atomic(paths.outcome(number), to_json({"attempt": number, "outcome": "interrupted"}))
    left = sorted(int(path.stem.split("-")[1]) for path in paths.slurm.glob("outcome-*"))
    assert left == list(range(10, 31))
    attempts = read_attempts(paths)
    assert [one.number for one in attempts] == list(range(1, 31))
    assert {one.outcome for one in attempts} == {"interrupted"}
