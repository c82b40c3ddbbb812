"""The process of a rank: only its own pickle is loaded, and its code says what SLURM may know."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission, pickle_load

from harness.errors import StorageError
from harness.runs.attempts import newest_outcome, read_attempts
from harness.runs.paths import RunPaths
from harness.worker.entry import START, load_own, wait_for
from harness.worker.task import LOCAL_REQUEUE, carry_out
from tests.unit.rights import needs_root
from tests.unit.runs_helpers import NOBODY, make_run


class Canary:
    """A program in a pickle: loading it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self):
        return (open, (self.file, "w"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A pickle that would make ``sung`` beside it."""
    path = tmp_path / "call.pkl"
    path.write_bytes(pickle.dumps(Canary(tmp_path / "sung")))
    path.chmod(0o600)
    return path


def test_our_own_pickle_is_loaded(canary: Path) -> None:
    load_own(canary)
    assert (canary.parent / "sung").exists()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_pickle_that_others_may_write_is_not_loaded(canary: Path, mode: int) -> None:
    canary.chmod(mode)
    with pytest.raises(StorageError, match="others may write"):
        load_own(canary)
    assert not (canary.parent / "sung").exists()


@needs_root
def test_a_foreign_pickle_is_not_loaded(canary: Path) -> None:
    os.chown(canary, NOBODY, -1)
    with pytest.raises(StorageError, match="not yours alone"):
        load_own(canary)
    assert not (canary.parent / "sung").exists()


def test_a_missing_pickle_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"call\.pkl: it is not there"):
        load_own(wait_for(tmp_path / "call.pkl", 0.2))


def test_a_late_pickle_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "late.pkl"
    threading.Timer(0.3, path.touch).start()
    begun = time.monotonic()
    assert wait_for(path, 30).exists()
    assert time.monotonic() - begun < 20


def entry(folder: Path, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-u", "-c", START, str(folder), name]
    environment = {**os.environ, **variables}
    # From a folder in which modules of the user's lie that are named as Python's own.
    (folder / "dataclasses.py").write_text("raise ImportError('the wrong one')\n")
    (folder / "harness").mkdir()
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder,
    )


def submit_by_hand(paths: RunPaths, name: str) -> None:
    DelayedSubmission(carry_out, str(paths.root)).dump(paths.slurm / name)
    (paths.slurm / name).chmod(0o600)


def test_the_pickle_holds_a_path_and_a_name_only(tmp_path: Path) -> None:
    submit_by_hand(make_run(tmp_path), "x.pkl")
    held = next(tmp_path.rglob("x.pkl"))
    assert held.stat().st_size < 1000
    call = pickle_load(held)
    assert call.function is carry_out
    assert call.args == (str(held.parent.parent),)
    assert call.kwargs == {}


def test_what_keeps_an_attempt_from_beginning_is_the_exit_code(tmp_path: Path) -> None:
    paths = make_run(tmp_path)
    submit_by_hand(paths, "7_submitted.pkl")
    (paths.root / "run.json").write_text("[]")
    variables = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7"}
    done = entry(paths.slurm, "%j_submitted.pkl", **variables)
    assert done.returncode == 5
    assert "is no run record" in done.stderr
    assert "Traceback" not in done.stderr
    assert newest_outcome(paths) == 0


def test_an_attempt_that_wrote_its_outcome_leaves_with_0(tmp_path: Path) -> None:
    paths = make_run(tmp_path)
    submit_by_hand(paths, "9_submitted.pkl")
    paths.spec.write_text("nonsense: 1\n")  # found out within the attempt
    variables = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "9", "SLURM_RESTART_COUNT": "2"}
    done = entry(paths.slurm, "9_submitted.pkl", **variables, SLURMD_NODENAME="n3")
    assert done.returncode == 0, done.stderr
    (attempt,) = read_attempts(paths)
    assert (attempt.outcome, attempt.exit_code) == ("refused", 2)
    assert (attempt.job, attempt.restart, attempt.node) == ("9", 2, "n3")
    # and submitit's own users find the result where they look for it
    assert pickle_load(paths.slurm / "9_0_result.pkl") == ("success", 0)


def test_a_run_that_was_cancelled_meanwhile_is_left_alone(tmp_path: Path) -> None:
    paths = make_run(tmp_path)
    paths.cancelled.touch()
    assert carry_out(str(paths.root)) == 0
    assert read_attempts(paths) == []


def test_the_local_code_is_the_one_submitit_waits_for() -> None:
    from submitit.local import local

    assert local.LOCAL_REQUEUE_RETURN_CODE == LOCAL_REQUEUE
