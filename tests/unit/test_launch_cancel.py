"""Cancelling without SLURM: local jobs, what is refused, and that the mark is taken back."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs_helpers import finish, holding_child, make_run, stop

from harness.cli.main import main
from harness.errors import UsageError
from harness.launch.cancel import _refused, cancel
from harness.launch.jobfacts import JobFacts
from harness.launch.slurm import Slurm, SlurmError
from harness.runs.attempts import begin_attempt, end_attempt
from harness.runs.jobs import Job, record_job
from harness.runs.lock import process_start
from harness.runs.paths import RunPaths

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return make_run(tmp_path)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """A machine with no SLURM."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return Slurm()


@pytest.fixture
def controller(paths: RunPaths) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a local job, which leads its own group."""
    child = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    pid = str(child.pid)
    record_job(paths, Job(pid, "local", host=socket.gethostname(), start=process_start(child.pid)))
    yield child
    child.kill()
    child.wait()


@pytest.mark.parametrize(("now", "number"), [(False, signal.SIGTERM), (True, signal.SIGKILL)])
def test_a_local_job(
    paths: RunPaths,
    bare: Slurm,
    controller: subprocess.Popen[bytes],
    capsys: pytest.CaptureFixture[str],
    now: bool,
    number: signal.Signals,
) -> None:
    begin_attempt(paths, {"job": str(controller.pid)})
    assert main(["status", str(paths.root)]) == 0
    assert f"job            {controller.pid}, running, on host" in capsys.readouterr().out
    assert main(["cancel", *(["--now"] if now else []), str(paths.root)]) == 0
    out = capsys.readouterr().out
    assert ("was ended" if now else "was asked to save and leave") in out
    assert ("begins anew: nothing was saved" if now else "goes on from what it saved") in out
    assert controller.wait(timeout=30) == -number
    mark = json.loads(paths.cancelled.read_text())
    assert set(mark) == {"time", "user"}
    end_attempt(paths, 1, "stopped", 0, 5, "SIGTERM")
    assert main(["status", str(paths.root)]) == 0
    said = capsys.readouterr().out
    assert "was cancelled: by " in said
    assert "with harness cancel. `harness resume" in said
    assert main(["cancel", str(paths.root)]) == 2
    assert (
        "no job of this run waits or runs, got a run that is cancelled" in capsys.readouterr().err
    )


class TestNothingToCancel:
    def refused(self, paths: RunPaths, slurm: Slurm) -> str:
        with pytest.raises(UsageError) as caught:
            cancel(paths, slurm)
        assert not paths.cancelled.exists()
        return str(caught.value)

    def test_never_submitted(self, paths: RunPaths, bare: Slurm) -> None:
        assert "got a run that is new; next: `harness status" in self.refused(paths, bare)

    def test_finished(self, paths: RunPaths, bare: Slurm) -> None:
        record_job(paths, Job("12"))
        finish(paths)
        assert "a run that is finished" in self.refused(paths, bare)

    def test_trained_by_hand(self, paths: RunPaths, bare: Slurm) -> None:
        child = holding_child(paths)
        try:
            said = self.refused(paths, bare)
        finally:
            child.kill()
            child.communicate()
        assert f"running: process {child.pid}" in said
        assert "stop the process that trains it with SIGTERM" in said

    def test_on_another_host_or_cluster(self, paths: RunPaths, bare: Slurm) -> None:
        stop(paths)
        record_job(paths, Job("12"))
        assert "log in to the cluster that it was submitted to" in self.refused(paths, bare)
        record_job(paths, Job("77", "local", host="elsewhere"))
        assert "if it runs on host elsewhere, cancel it there" in self.refused(paths, bare)


def test_a_job_of_somebody_else() -> None:
    denied = "Kill job error on job id 12: Access/permission denied"
    facts = JobFacts("12", "RUNNING", "squeue", user="ada")
    said = str(_refused(Job("12"), facts, SlurmError("scancel", 1, denied)))
    assert "it is not yours, got a job of ada" in said
    assert said.endswith("next: ask ada")
    other = str(_refused(Job("12"), facts, SlurmError("scancel", 1, "Unspecified error")))
    assert "was not cancelled, got Unspecified error" in other


def test_what_a_cancelled_job_has_saved_is_said(
    paths: RunPaths,
    bare: Slurm,
    controller: subprocess.Popen[bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths.checkpoint(7).mkdir(parents=True)
    assert main(["cancel", "--now", str(paths.root)]) == 0
    assert "goes on from its last checkpoint" in capsys.readouterr().out
    assert controller.wait(timeout=30) == -signal.SIGKILL


def test_a_prepared_run_says_how_it_is_submitted(
    paths: RunPaths, bare: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    paths.slurm.mkdir(exist_ok=True)
    paths.prepared_script.write_text("#!/bin/bash\n")
    assert main(["status", str(paths.root)]) == 0
    out = capsys.readouterr().out
    assert "prepared, and not submitted yet. Next: `sbatch " in out
    assert str(paths.prepared_script) in out
