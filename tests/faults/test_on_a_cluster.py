"""What SLURM, its nodes and its rules do to a job; the ranks are played, see ``actor.sh``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.runs.attempts import read_attempts
from tests.cluster.on import on
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.stage import Stage


def test_30_a_rank_that_leaves_early_ends_the_others(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Why ranks leave with 0 and together: srun ends the others with SIGTERM, wherever they are,
    and returns 143, as if somebody had wanted a stop."""
    stage = Stage(cluster, tmp_path, "first leaves", "finish", ranks_per_node=3).submit()
    assert "Exited with exit code 1" in stage.ends("FAILED", 3)
    assert stage.plays_left() == ["finish"]
    assert cluster.job(stage.job)["Restarts"] == "0"


def test_17_attempts_without_progress_end_in_failed(cluster: SlurmCluster, tmp_path: Path) -> None:
    stage = Stage(cluster, tmp_path, "crash", "crash", "finish", max_attempts=2).submit()
    assert "2 attempts in a row without a new checkpoint" in stage.ends("FAILED", 1)
    mark = json.loads(stage.paths.failed.read_text())
    assert "2 attempts in a row" in mark["reason"]
    assert stage.plays_left() == ["finish"]
    refused = stage.submit()
    assert "the run has failed" in refused.ends("FAILED", 1)
    assert stage.plays_left() == ["finish"]


def cannot_be_requeued(cluster: SlurmCluster, stage: Stage) -> str:
    """Asks the training to stop; what the batch script has said when the job has ended."""
    stage.submit()
    stage.wait_for("training")
    cluster.run("scancel", "--batch", "--signal=USR2", stage.job)
    said = stage.ends("FAILED", 75)
    assert "the requeue was refused" in said
    assert f"next: harness resume {stage.paths.root}" in said
    assert list(stage.paths.checkpoints.iterdir()), "what was saved stays"
    assert stage.plays_left() == ["finish"]
    return said


@on("requeue_refused")
def test_15_a_site_that_refuses_requeues(cluster: SlurmCluster, tmp_path: Path) -> None:
    cannot_be_requeued(cluster, Stage(cluster, tmp_path, "train 300", "finish"))


SCONTROL = {
    "missing": ("", "no such file"),
    "fails": ("#!/bin/sh\necho no such right >&2\nexit 1\n", "no such right"),
    "slow": ("#!/bin/sh\nexec sleep 600\n", "no answer within"),
}
"""By name: what stands in the place of scontrol, and what is said of it."""


@pytest.mark.parametrize("name", list(SCONTROL))
def test_15_scontrol_is_missing_or_fails_or_is_slow(
    name: str, cluster: SlurmCluster, tmp_path: Path
) -> None:
    program, words = SCONTROL[name]
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(program)
    scontrol.chmod(0o755 if program else 0o644)
    stage = Stage(cluster, tmp_path, "train 300", "finish")
    plain, hidden = "timeout 60 scontrol requeue", f"timeout 5 {scontrol} requeue"
    if not program:
        scontrol.unlink()
    assert plain in stage.text()
    stage.change = (plain, hidden)
    assert words.lower() in cannot_be_requeued(cluster, stage).lower()


@on("limited_memory")
def test_19_a_rank_that_is_killed_for_memory_is_not_tried_again(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    stage = Stage(cluster, tmp_path, "hog", "finish").submit()
    said = stage.ends("FAILED", 1)
    assert "a rank was killed for memory (" in said
    assert f"next: harness resume {stage.paths.root}" in said
    assert stage.plays_left() == ["finish"]
    assert "killed for memory" in stage.paths.failed.read_text()
    (attempt,) = read_attempts(stage.paths)
    assert attempt.outcome == "failed" and "memory" in str(attempt.message)
