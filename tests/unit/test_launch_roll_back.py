"""Rolling back: what goes, what stays, what is refused, and that a kill half-way costs nothing."""

from __future__ import annotations

import json
import shlex

import pytest
from fork_helpers import parent, save
from runs_helpers import (
    bare_user,
    fail,
    open_folder,
    resolved,
)

from harness.checkpoint import Store, aside
from harness.checkpoint.aside import folders_aside
from harness.errors import UsageError
from harness.launch import roll_back as module
from harness.launch.jobfacts import JobFacts
from harness.launch.joined import join
from harness.launch.roll_back import bring_back, next_command, roll_back
from harness.runs.attempts import begin_attempt, end_attempt, read_attempts
from harness.runs.create import create_run
from harness.runs.jobs import Job, record_job
from harness.runs.record import read_record, update_record
from harness.runs.registry import summarize
from harness.runs.state import run_state
from tests.unit.roll_back_helpers import bare, content, newest, there

__all__ = ["bare", "bare_user", "open_folder", "parent"]  # fixtures, found by their names


def test_a_finished_run_goes_on_from_an_earlier_step(parent, bare):
    update_record(parent, final={"test_accuracy": 0.9}, best={"step": 30}, adapted={"step": 30})
    Store(parent.adapted, keep=1, access="private", log=print).save(30, {}, {})
    parent.metrics.write_text("".join(json.dumps({"step": n}) + "\n" for n in (10, 20, 25, 30)))
    done = roll_back(parent, 20, bare)
    assert (done.aside, done.lost_best, done.lines) == ((30,), None, 2)
    assert set(done.moved) == {"FINISHED", "heartbeat.json", "adapted"}
    assert done.folder == parent.checkpoints / "set-aside-1"
    assert there(parent) == [10, 20] and newest(parent) == 20
    assert (done.folder / "step-00000030" / "manifest.json").exists()
    record = read_record(parent)
    assert record["best"] == {"metric": "val_accuracy", "value": 0.5, "step": 10}
    assert record["final"] is None and record["adapted"] is None
    state = run_state(parent)
    assert (state.word, state.step) == ("stopped", 20)
    assert state.reason == "it was rolled back to step 20"
    assert parent.metrics.read_text().count("\n") == 4, "they go at the next start"


def test_its_account_of_attempts_says_so_and_the_next_attempt_ends_that(parent, bare):
    roll_back(parent, 20, bare)
    (attempt,) = read_attempts(parent)
    assert (attempt.outcome, attempt.to_step, attempt.rolled_back_to) == ("finished", 30, 20)
    assert begin_attempt(parent, {}) == 2
    assert read_attempts(parent)[1].rolled_back_to is None
    end_attempt(parent, 2, "stopped", 20, 25)
    assert (run_state(parent).step, run_state(parent).reason) == (25, None)


def test_a_failed_run_is_open_again(tmp_path, bare):
    paths, _ = create_run(resolved(), tmp_path / "run")
    for step in (5, 10):
        save(paths, step)
    fail(paths)
    done = roll_back(paths, 5, bare)
    assert done.moved == ("FAILED",) and done.best is None
    assert (run_state(paths).word, read_record(paths)["best"]) == ("stopped", None)
    assert create_run(resolved(), paths.root) == (paths, "continued")


def test_one_that_was_cancelled_is_open_and_no_longer_called_so(tmp_path, bare):
    from harness.launch.looking import look_at

    paths, _ = create_run(resolved(), tmp_path / "run")
    for step in (5, 10):
        save(paths, step)
    record_job(paths, Job("12"))
    end_attempt(paths, begin_attempt(paths, {"job": "12"}), "stopped", 0, 10)
    paths.cancelled.write_text('{"user": "me"}')
    assert look_at([paths], None)[0][0].joined.state == "cancelled"
    assert roll_back(paths, 5, bare).moved == ("CANCELLED",)
    joined = look_at([paths], None)[0][0].joined
    assert (joined.state, joined.reason) == ("stopped", "it was rolled back to step 5")
    bring_back(paths, bare)
    assert paths.cancelled.exists()
    assert look_at([paths], None)[0][0].joined.state == "cancelled"


@pytest.mark.parametrize(("job", "word"), [("12", "stopped"), ("13", "cancelled")])
def test_what_slurm_says_of_the_job_before_is_history(tmp_path, bare, job, word):
    """But not what it says of one that was submitted since."""
    paths, _ = create_run(resolved(), tmp_path / "run")
    for step in (5, 10):
        save(paths, step)
    end_attempt(paths, begin_attempt(paths, {"job": "12"}), "stopped", 0, 10)
    roll_back(paths, 5, bare)
    facts = JobFacts(job, "CANCELLED", "accounting")
    assert join(summarize(paths), Job(job), facts).state == word


def test_the_command_it_names_continues_it(parent, bare):
    roll_back(parent, 10, bare)
    words = shlex.split(next_command(parent))
    assert words == ["harness", "run", str(parent.spec), "--run-dir", str(parent.root)]
    record_job(parent, Job("12"))
    assert next_command(parent) == f"harness resume {parent.root}"
    (row,) = [summarize(parent)]
    assert (row.state, row.step) == ("stopped", 10)


def test_a_dry_run_says_the_same_and_changes_nothing(parent, bare):
    before = content(parent)
    would = roll_back(parent, 10, bare, dry_run=True)
    assert content(parent) == before and would.folder is None
    done = roll_back(parent, 10, bare)
    assert (done.aside, done.moved, done.best) == (would.aside, would.moved, would.best)


def test_bringing_back_is_a_whole_undo(parent, bare):
    update_record(parent, final={"test_accuracy": 0.9}, best={"step": 10}, adapted=None)
    before, state = content(parent), run_state(parent)
    roll_back(parent, 20, bare)
    roll_back(parent, 10, bare)
    assert there(parent) == [10]
    assert bring_back(parent, bare, dry_run=True).steps == (20,)
    assert bring_back(parent, bare).steps == (20,)
    assert (there(parent), run_state(parent).step) == ([10, 20], 20)
    back = bring_back(parent, bare)
    assert (back.steps, set(back.names)) == ((30,), {"FINISHED", "heartbeat.json"})
    assert content(parent) == before and run_state(parent) == state
    assert read_attempts(parent)[0].rolled_back_to is None
    with pytest.raises(UsageError, match="nothing is set aside"):
        bring_back(parent, bare)


def test_what_went_back_by_itself_after_that_step_had_not_done_so_yet(parent, bare):
    """Of ``training.nan: rollback``; and it is there again once that is undone."""
    first, second = ({"step": bad, "to_step": bad - 1, "rate_scale": 0.5} for bad in (16, 31))
    state = {"position": {"step": 20}, "rollbacks": {"done": [first], "planned": 20}}
    Store(parent.checkpoints, keep=9, access="private", log=print).save(25, {}, state)
    save(parent, 30, best=10)
    update_record(parent, rollbacks=[first, second])
    roll_back(parent, 25, bare)
    assert read_record(parent)["rollbacks"] == [first]
    roll_back(parent, 10, bare)
    assert read_record(parent)["rollbacks"] == []
    bring_back(parent, bare)
    assert read_record(parent)["rollbacks"] == [first]
    bring_back(parent, bare)
    assert read_record(parent)["rollbacks"] == [first, second]


def test_what_a_run_has_gone_on_from_is_not_brought_back(parent, bare):
    roll_back(parent, 20, bare)
    end_attempt(parent, begin_attempt(parent, {}), "stopped", 20, 25)
    before = content(parent)
    with pytest.raises(
        UsageError, match=r"has been started since.*set-aside-1 into those of the fork"
    ):
        bring_back(parent, bare)
    assert content(parent) == before


def test_the_way_into_a_fork_that_the_error_names(parent, bare, tmp_path):
    from harness.launch.fork import fork_run

    roll_back(parent, 20, bare)
    made = fork_run(parent, run_dir=tmp_path / "fork", log=print).paths
    left = parent.checkpoints / "set-aside-1" / "step-00000030"
    left.rename(made.checkpoints / left.name)
    assert newest(made) == 30


@pytest.mark.parametrize("moment", ["note", "marks", "put_aside", "record", "account"])
def test_a_kill_half_way_is_finished_by_the_same_call(parent, bare, monkeypatch, moment):
    update_record(parent, final={"test_accuracy": 0.9})
    before = read_record(parent)
    where, name = {
        "note": (aside, "write_atomic"),
        "marks": (module, "fsync_dir"),
        "put_aside": (aside, "fsync_dir"),
        "record": (module, "update_record"),
        "account": (module, "note_roll_back"),
    }[moment]

    def killed(*words, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, name, killed)
        with pytest.raises(KeyboardInterrupt):
            roll_back(parent, 10, bare)
    assert newest(parent) in (10, 20, 30)
    roll_back(parent, 10, bare)
    assert there(parent) == [10] and not parent.finished.exists()
    assert run_state(parent).reason == "it was rolled back to step 10"
    while folders_aside(parent.checkpoints):
        bring_back(parent, bare)
    assert there(parent) == [10, 20, 30] and parent.finished.exists()
    assert {**before, "adapted": None, "best": None} == {"adapted": None, **read_record(parent)}
