"""Rolling back: the best that is lost, what is refused, and what stays out of its way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from checkpoint_helpers import flip_bit
from fork_helpers import parent, save
from runs_helpers import (
    NOBODY,
    as_nobody,
    bare_user,
    finish,
    holding_child,
    make_run,
    open_folder,
    resolved,
    stop,
)

from harness.checkpoint import Store
from harness.errors import StorageError, UsageError
from harness.launch.roll_back import roll_back
from harness.launch.slurm import Slurm
from harness.runs.attempts import begin_attempt
from harness.runs.create import create_run
from harness.runs.heartbeat import write_heartbeat
from harness.runs.jobs import Job, record_job
from harness.runs.paths import RunPaths
from harness.runs.record import read_record, update_record
from tests.unit.rights import needs_root
from tests.unit.roll_back_helpers import bare, content, there

__all__ = ["bare", "bare_user", "open_folder", "parent"]  # fixtures, found by their names


def test_the_best_that_came_later_is_forgotten_with_it(parent, bare):
    save(parent, 40, best=40)
    update_record(parent, best={"metric": "val_accuracy", "value": 0.9, "step": 40})
    done = roll_back(parent, 20, bare)
    assert done.best["step"] == 10 and done.lost_best is None
    assert read_record(parent)["best"]["step"] == 10


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_a_best_that_cannot_be_had_is_said(parent, bare, how):
    if how == "gone":
        parent.checkpoint(10).rename(parent.root / "elsewhere")
    else:
        flip_bit(parent.checkpoint(10) / "state.json", 9)
    done = roll_back(parent, 20, bare)
    assert (done.best, done.lost_best, read_record(parent)["best"]) == (None, 10, None)
    # A damaged one must not be there when the training looks for it.
    assert not parent.checkpoint(10).exists()
    assert done.aside == ((10, 30) if how == "damaged" else (30,))


def test_an_unknown_step_is_refused_with_those_that_are_there(parent, bare):
    before = content(parent)
    with pytest.raises(UsageError, match=r"no checkpoint of step 15, allowed: 10, 20, 30"):
        roll_back(parent, 15, bare)
    with pytest.raises(UsageError, match=r"newest checkpoint already, allowed: 10, 20"):
        roll_back(parent, 30, bare)
    assert content(parent) == before
    empty, _ = create_run(resolved(), parent.root.parent / "empty")
    with pytest.raises(UsageError, match="train it until its first save"):
        roll_back(empty, 1, bare)


def test_a_damaged_step_is_refused_with_the_others(parent, bare):
    flip_bit(parent.checkpoint(20) / "state.json", 3)
    before = content(parent)
    with pytest.raises(StorageError, match=r"got state\.json differs.*allowed: 10, 30") as caught:
        roll_back(parent, 20, bare)
    assert caught.value.exit_code == 5
    assert content(parent) == before


def test_later_damaged_ones_and_one_being_replaced_are_set_aside_too(parent, bare):
    flip_bit(parent.checkpoint(30) / "manifest.json", 3)
    parent.checkpoint(20).rename(parent.checkpoints / ".replaced-step-00000020-ab12")
    done = roll_back(parent, 10, bare)
    assert done.aside == (20, 30) and there(parent) == [10]
    Store(parent.checkpoints, keep=1, access="private", log=print).sweep()
    assert sorted(path.name for path in done.folder.iterdir())[-2:] == [
        "step-00000020",
        "step-00000030",
    ]


def test_later_saves_and_sweeps_leave_alone_what_is_set_aside(parent, bare):
    folder = roll_back(parent, 10, bare).folder
    before = sorted(path.name for path in folder.iterdir())
    store = Store(parent.checkpoints, keep=1, access="private", log=print)
    store.sweep()
    for step in (12, 20, 40):
        store.save(step, {}, {})
    assert there(parent) == [40]
    assert sorted(path.name for path in folder.iterdir()) == before


class TestRefused:
    def said(self, paths: RunPaths, slurm: Slurm) -> str:
        before = content(paths)
        with pytest.raises((UsageError, StorageError)) as caught:
            roll_back(paths, 10, slurm)
        assert content(paths) == before
        return str(caught.value)

    def test_while_it_is_trained(self, parent, bare):
        child = holding_child(parent)
        try:
            assert "another process works on this run" in self.said(parent, bare)
        finally:
            child.kill()
            child.communicate()

    def test_while_another_host_gives_a_sign_of_life(self, tmp_path, bare, monkeypatch):
        paths, _ = create_run(resolved(), tmp_path / "run")
        for step in (10, 20):
            save(paths, step)
        begin_attempt(paths, {})
        with monkeypatch.context() as patch:
            patch.setattr("socket.gethostname", lambda: "elsewhere")
            write_heartbeat(paths, attempt=1, step=20)
        assert "the run is running, got last heartbeat" in self.said(paths, bare)

    def test_while_a_local_job_of_it_runs(self, parent, bare):
        from harness.runs.lock import process_start

        record_job(parent, Job(str(os.getpid()), "local", start=process_start(os.getpid())))
        said = self.said(parent, bare)
        assert "a job of this run is running" in said and "harness cancel" in said

    @needs_root
    def test_somebody_elses(self, open_folder, bare):
        paths = make_run(open_folder)
        for step in (10, 20):
            save(paths, step)
        stop(paths)
        assert "not permitted" in as_nobody(lambda: roll_back(paths, 10, bare))
        for folder, folders, files in os.walk(paths.root):
            for name in (".", *folders, *files):
                os.chown(Path(folder, name), NOBODY, NOBODY)
        assert "is somebody else's run" in self.said(paths, bare)


def test_a_group_keeps_its_rights_to_what_is_set_aside(tmp_path, bare):
    paths, _ = create_run(resolved(access="group"), tmp_path / "run")
    store = Store(paths.checkpoints, keep=3, access="group", log=print)
    for step in (10, 20):
        store.save(step, {}, {"position": {"step": step}})
    finish(paths)
    folder = roll_back(paths, 10, bare).folder
    assert folder.stat().st_mode & 0o7777 == 0o2770
    assert (folder / "note.json").stat().st_mode & 0o777 == 0o660
