"""The state of a run, as a table: which files say which word."""

from __future__ import annotations

import json
import os

import pytest
from runs_helpers import finish, holding_child

from harness.errors import StorageError
from harness.runs.attempts import OUTCOMES, begin_attempt, end_attempt, read_attempts
from harness.runs.clock import utc_now
from harness.runs.files import append_line
from harness.runs.heartbeat import read_heartbeat, write_heartbeat
from harness.runs.lock import RunLock
from harness.runs.marks import mark_failed, reopen
from harness.runs.paths import RunPaths
from harness.runs.record import read_record, update_record
from harness.runs.state import WORDS, run_state
from tests.unit.runs_state_helpers import OLD, paths

__all__ = ["paths"]  # a fixture, found by its name


def begun(paths: RunPaths) -> int:
    number = begin_attempt(paths, {})
    write_heartbeat(paths, attempt=number, step=30, total_steps=100)
    return number


def ended(paths: RunPaths, outcome: str, message: str = "") -> None:
    end_attempt(paths, begun(paths), outcome, 0, 40, message)


def beat_of(paths: RunPaths, **changes) -> None:
    paths.heartbeat.write_text(json.dumps(read_heartbeat(paths) | changes))


TABLE = {
    "nothing": (lambda p: None, "new", None),
    "begun, no heartbeat": (lambda p: begin_attempt(p, {}), "interrupted", "no heartbeat"),
    "begun, ours, heartbeat": (begun, "interrupted", "without a word.*last heartbeat"),
    "begun, elsewhere, fresh": (
        lambda p: (begun(p), beat_of(p, host="n3")),
        "running",
        "on host n3, though no lock",
    ),
    "begun, elsewhere, old": (
        lambda p: (begun(p), beat_of(p, host="n3", time=OLD)),
        "interrupted",
        "days ago on host n3",
    ),
    "stopped": (lambda p: ended(p, "stopped", "SIGTERM"), "stopped", "SIGTERM"),
    "requeue": (lambda p: ended(p, "requeue", "time limit"), "stopped", "time limit"),
    "refused": (
        lambda p: end_attempt(p, begun(p), "refused", 0, 0, "no such folder", exit_code=4),
        "stopped",
        "no such folder",
    ),
    "interrupted": (lambda p: ended(p, "interrupted", "node"), "interrupted", "node"),
    "failed, no mark": (lambda p: ended(p, "failed", "loss is NaN"), "failed", "loss is NaN"),
    "failed": (lambda p: (ended(p, "failed"), mark_failed(p, "bad loss")), "failed", "bad loss"),
    "failed, plain text": (lambda p: p.failed.write_text("out of memory\n"), "failed", "^out of"),
    "failed, empty mark": (lambda p: p.failed.touch(), "failed", "no reason was left"),
    "failed, tried again": (
        lambda p: (ended(p, "failed"), mark_failed(p, "bad"), ended(p, "stopped")),
        "stopped",
        None,
    ),
    "finished": (finish, "finished", None),
    "finished, empty mark": (lambda p: (finish(p), p.finished.write_text("")), "finished", None),
    "finished, then extended": (lambda p: (finish(p), reopen(p)), "stopped", "more epochs"),
    "stopped, then begun": (lambda p: (ended(p, "stopped"), begun(p)), "interrupted", "without"),
    "outcome by the batch script": (
        lambda p: (begun(p), p.outcome(1).write_text('{"outcome": "failed", "message": "OOM"}')),
        "failed",
        "OOM",
    ),
    "torn last line": (
        lambda p: (ended(p, "stopped", "USR2"), p.attempts.open("a").write('{"attempt": 2, "ev')),
        "stopped",
        "USR2",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_word_and_reason(paths, case):
    import re

    make, word, reason = TABLE[case]
    make(paths)
    state = run_state(paths)
    assert state.word == word and word in WORDS
    assert (state.reason is None) if reason is None else re.search(reason, state.reason)


@pytest.mark.parametrize("before", ["nothing", "begun, ours, heartbeat", "stopped", "failed"])
def test_a_held_lock_means_running_and_names_the_process(paths, before):
    TABLE[before][0](paths)
    child = holding_child(paths)
    try:
        state = run_state(paths)
        assert state.word == "running" and f"process {child.pid}" in state.reason
    finally:
        child.kill()
        child.communicate()
    assert run_state(paths).word == TABLE[before][1]


@pytest.mark.parametrize(
    ("changes", "hangs"),
    [
        ({"time": OLD, "hangs_after_s": 600.0}, True),
        ({"time": OLD, "hangs_after_s": None}, False),
        ({"time": OLD}, False),
        ({"hangs_after_s": 600.0}, False),
        ({"time": OLD, "hangs_after_s": 600.0, "attempt": 0}, False),
    ],
)
def test_a_run_that_does_no_steps_is_called_hung(paths, changes, hangs):
    begun(paths)
    beat_of(paths, **changes)
    with RunLock(paths):
        state = run_state(paths)
    assert state.word == "running"
    assert str(state.reason).startswith("hung: no step for ") == hangs


def test_finished_wins_while_its_process_still_leaves(paths):
    finish(paths)
    with RunLock(paths):
        assert run_state(paths).word == "finished"


def test_figures_of_a_state(paths):
    update_record(paths, best={"metric": "val_accuracy", "step": 20, "value": 0.5})
    ended(paths, "stopped")
    beat_of(paths, time="2026-12-01T00:00:00.000Z", step=30)
    paths.attempts.write_text(paths.attempts.read_text().replace(utc_now()[:4], "2025"))
    state = run_state(paths)
    assert (state.attempt, state.step, state.total_steps) == (1, 40, 100)
    assert state.metrics == {"val_accuracy": 0.5}
    assert state.updated == "2026-12-01T00:00:00.000Z"
    update_record(paths, final={"test_accuracy": 0.25, "test_loss": 1.5})
    finish(paths, step=100)
    state = run_state(paths)
    assert (state.attempt, state.step, state.total_steps) == (2, 100, 100)
    assert state.metrics == {"val_accuracy": 0.5, "test_accuracy": 0.25, "test_loss": 1.5}


@pytest.mark.parametrize("name", ["run.json", "heartbeat.json", "slurm/outcome-1.json"])
@pytest.mark.parametrize("content", ["", "[1", "[1]"])
def test_a_broken_file_is_named(paths, name, content):
    begun(paths)
    (paths.root / name).write_text(content)
    with pytest.raises(StorageError, match=name.replace(".", r"\.")):
        run_state(paths)


def test_attempts_are_counted_and_joined(paths):
    assert begin_attempt(paths, {"devices": ["CPU:0"]}) == 1
    end_attempt(paths, 1, "stopped", 0, 10, "SIGTERM")
    assert begin_attempt(paths, {"attempt": 77, "host": "liar"}) == 2, "facts cannot override"
    first, second = read_attempts(paths)
    assert (first.outcome, first.from_step, first.to_step, first.message) == (
        "stopped",
        0,
        10,
        "SIGTERM",
    )
    assert first.pid == os.getpid() and first.began <= first.ended
    assert (second.number, second.outcome, second.ended) == (2, None, None)
    assert read_record(paths)["attempts"] == 2
    outcome = json.loads(paths.outcome(1).read_text())
    assert outcome["exit_code"] == 75 and outcome["outcome"] == "stopped"


@pytest.mark.parametrize("outcome", sorted(set(OUTCOMES) - {"refused"}))
def test_an_outcome_has_its_exit_code_unless_told(paths, outcome):
    end_attempt(paths, 1, outcome, 0, 0)
    assert json.loads(paths.outcome(1).read_text())["exit_code"] == OUTCOMES[outcome]
    end_attempt(paths, 2, outcome, 0, 0, exit_code=5)
    assert json.loads(paths.outcome(2).read_text())["exit_code"] == 5


def test_a_refusal_has_the_exit_code_of_its_error(paths):
    with pytest.raises(ValueError, match="needs the exit code"):
        end_attempt(paths, 1, "refused", 0, 0, "no such folder")
    assert read_attempts(paths) == [] and not paths.outcome(1).exists()
    end_attempt(paths, 1, "refused", 0, 0, "no such folder", exit_code=4)
    outcome = json.loads(paths.outcome(1).read_text())
    assert (outcome["outcome"], outcome["exit_code"]) == ("refused", 4)
    (attempt,) = read_attempts(paths)
    assert (attempt.outcome, attempt.exit_code) == ("refused", 4)


@pytest.mark.parametrize(
    ("attempts", "step"),
    [
        ([("stopped", 0, 40)], 40),  # the heartbeat, 30, is behind
        ([("failed", 0, 40), ("stopped", 20, 25)], 25),  # went on from a checkpoint before 40
        ([("stopped", 0, 40), ("refused", 0, 0)], 40),  # did not come to restoring
        ([("stopped", 0, 40), ("refused", 0, 0), ("refused", 0, 0)], 40),
        ([("refused", 0, 0)], 30),
        ([("stopped", 0, 10), None], 30),  # goes on, or was killed: only the heartbeat knows
        ([None, ("refused", 0, 0)], 30),
    ],
)
def test_the_step_of_a_run(paths, attempts, step):
    for end in attempts:
        number = begun(paths)
        if end is not None:
            end_attempt(paths, number, *end, exit_code=4)
    assert run_state(paths).step == step


def test_the_step_of_a_run_without_heartbeat(paths):
    number = begin_attempt(paths, {})
    assert run_state(paths).step is None
    end_attempt(paths, number, "refused", 0, 0, exit_code=4)
    assert run_state(paths).step == 0


def test_the_length_of_a_run_is_known_before_its_first_heartbeat(paths):
    update_record(paths, total_steps=500)
    number = begin_attempt(paths, {})
    assert run_state(paths).total_steps == 500
    write_heartbeat(paths, attempt=number, step=1, total_steps=600)
    assert run_state(paths).total_steps == 600
    paths.finished.write_text('{"step": 5, "time": "2026-01-01T00:00:00.000Z"}')
    assert run_state(paths).total_steps == 500


def test_an_unknown_outcome_is_a_mistake_of_the_caller(paths):
    with pytest.raises(ValueError, match="got 'done'"):
        end_attempt(paths, 1, "done", 0, 0)
    assert read_attempts(paths) == []


def test_foreign_lines_among_the_attempts_do_no_harm(paths):
    append_line(paths.attempts, '{"note": "by hand"}')
    append_line(paths.attempts, "not json")
    assert begin_attempt(paths, {}) == 1
