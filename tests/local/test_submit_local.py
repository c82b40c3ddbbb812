"""The same verbs without a scheduler: jobs on this machine, by submitit's local executor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.runs.attempts import read_attempts
from harness.runs.jobs import last_job
from harness.runs.lock import process_start
from harness.runs.paths import RunPaths
from tests.local.training_helpers import curve, mischief, write_spec

HARNESS = str(Path(sys.executable).with_name("harness"))


@pytest.fixture
def spec(
    tmp_path: Path, write_pictures: Callable[..., Path], tiny_backbone: Path
) -> Callable[..., str]:
    """Writes a spec whose calls each take ``sleep_s`` longer."""
    write_pictures(tmp_path / "data" / "train", ["blue", "green", "red"], 16)
    write_pictures(tmp_path / "data" / "test", ["blue", "green", "red"], 4)

    def write(sleep_s: float, **changes: Any) -> str:
        slow = mischief(tmp_path, sleep_s=sleep_s)
        more = {"cluster.site": "local", **slow, **changes}
        return str(write_spec(tmp_path, tiny_backbone, tmp_path / "data", **more))

    return write


def call(folder: Path, *words: str, code: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [HARNESS, *words],
        env={**os.environ, "HARNESS_RUNS_ROOT": str(folder / "runs")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == code, f"{words}: {done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def submitted(tmp_path: Path) -> Iterator[Callable[..., RunPaths]]:
    """Submits; ends what is still there after the test."""
    made: list[RunPaths] = []

    def submit(*words: str) -> RunPaths:
        facts = json.loads(call(tmp_path, "submit", *words, "--json")[0])
        assert facts["executor"] == "local"
        made.append(RunPaths(Path(facts["path"])))
        return made[-1]

    yield submit
    for paths in made:
        job = last_job(paths)
        if job is not None and process_start(int(job.id)) == job.start:
            os.killpg(int(job.id), signal.SIGKILL)


def wait_for(holds: Callable[[], bool], what: str, paths: RunPaths) -> None:
    end = time.monotonic() + 240
    while not holds():
        logs = "\n".join(path.read_text() for path in paths.slurm.glob("*log*"))
        assert time.monotonic() < end, f"no {what}:\n{logs[-5000:]}"
        time.sleep(0.1)


def beat(paths: RunPaths) -> dict[str, Any]:
    return json.loads(paths.heartbeat.read_text()) if paths.heartbeat.exists() else {}


def finished(paths: RunPaths) -> bool:
    attempts = read_attempts(paths)
    return bool(attempts) and attempts[-1].outcome == "finished"


def test_submitted_looked_at_cancelled_resumed_and_used(
    tmp_path: Path, spec: Callable[..., str], submitted: Callable[..., RunPaths]
) -> None:
    paths = submitted(spec(1.0))
    wait_for(lambda: beat(paths).get("step", 0) >= 4, "step 4", paths)
    shown = json.loads(call(tmp_path, "status", str(paths.root), "--json")[0])
    assert shown["state"] == "running"
    _, refused = call(tmp_path, "submit", spec(1.0), "--run-dir", str(paths.root), code=2)
    assert "a job of this run is running already" in refused
    call(tmp_path, "cancel", str(paths.root))
    job = last_job(paths)
    assert job is not None
    wait_for(lambda: read_attempts(paths)[-1].outcome == "stopped", "stop", paths)
    wait_for(lambda: process_start(int(job.id)) != job.start, "end of the controller", paths)
    assert json.loads(call(tmp_path, "status", str(paths.root), "--json")[0])["state"] in (
        "stopped",
        "cancelled",
    )
    out, err = call(tmp_path, "resume", str(paths.root), "--wait")
    assert "continues" in out, err
    assert finished(paths)
    first, second = read_attempts(paths)
    assert (first.outcome, second.outcome) == ("stopped", "finished")
    assert second.from_step == first.to_step
    assert curve(paths.root)
    assert "test_accuracy" in call(tmp_path, "status", str(paths.root))[0]


def test_at_its_time_limit_it_is_started_again(
    tmp_path: Path, spec: Callable[..., str], submitted: Callable[..., RunPaths]
) -> None:
    """The signal that submitit's controller sends before the time limit, sent by us."""
    paths = submitted(spec(1.0))
    wait_for(lambda: beat(paths).get("step", 0) >= 4, "step 4", paths)
    os.kill(beat(paths)["pid"], signal.SIGUSR2)
    wait_for(lambda: finished(paths), "end", paths)
    first, second = read_attempts(paths)
    assert "SIGUSR2" in str(first.message)
    assert first.job == second.job
    assert second.from_step == first.to_step


def test_a_reader_of_the_output_is_not_kept_waiting(
    tmp_path: Path, spec: Callable[..., str], submitted: Callable[..., RunPaths]
) -> None:
    paths = submitted(spec(1.0))  # reads to the end of standard output
    assert not finished(paths)
    files = {path.name.partition("_")[2] for path in paths.slurm.glob("[0-9]*_*")}
    assert "submitted.pkl" in files
    modes = {path.stat().st_mode & 0o077 for path in paths.slurm.iterdir()}
    assert modes == {0}, "for our eyes only"
    call(tmp_path, "cancel", str(paths.root), "--now")
    job = last_job(paths)
    assert job is not None
    wait_for(lambda: process_start(int(job.id)) != job.start, "end of the controller", paths)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prepare"], "needs SLURM"),
        (["-o", "cluster.nodes=2"], "needs SLURM, and this site has none, got cluster.nodes: 2"),
        (["--dry-run"], "no batch script"),
        (["-o", "cluster.continue_by=chain"], "needs SLURM"),
    ],
)
def test_what_needs_a_scheduler_is_refused(
    tmp_path: Path, spec: Callable[..., str], words: list[str], said: str
) -> None:
    _, err = call(tmp_path, "submit", spec(0.0), *words, code=2)
    assert said in err
    assert not (tmp_path / "runs").exists(), "nothing is left of it"
