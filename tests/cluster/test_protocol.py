"""The batch script's protocol on a real SLURM: what it does after each way a rank can end.

The ranks are played by ``actor.sh``, so that every end can be had, and soon; the same with real
training stands in ``test_submit.py``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.runs.attempts import read_attempts
from harness.runs.jobs import read_jobs
from tests.cluster.on import on
from tests.cluster.processes import wait_until
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.stage import Stage
from tests.cluster.test_cluster import preempt


def test_a_finished_run_ends_with_0_and_notes_its_job(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    stage = Stage(cluster, tmp_path, "finish").submit()
    assert "start 1, on n" in stage.ends("COMPLETED", 0)
    (noted,) = read_jobs(stage.paths)
    assert (noted.id, noted.executor, noted.site, noted.ranks) == (stage.job, "slurm", "generic", 1)
    again = stage.submit()
    assert "nothing to do" in again.ends("COMPLETED", 0)
    assert len(read_jobs(stage.paths)) == 2


def test_what_was_refused_is_not_tried_again(cluster: SlurmCluster, tmp_path: Path) -> None:
    stage = Stage(cluster, tmp_path, "refuse 5", "finish").submit()
    assert "outcome refused" in stage.ends("FAILED", 5)
    assert stage.plays_left() == ["finish"]


@pytest.mark.parametrize(("code", "said"), [(4, "start 1"), (1, "before training began")])
def test_ranks_that_leave_before_an_attempt_are_not_tried_again(
    cluster: SlurmCluster, tmp_path: Path, code: int, said: str
) -> None:
    stage = Stage(cluster, tmp_path, f"leave {code}", "finish").submit()
    assert said in stage.ends("FAILED", 4 if code == 4 else 3)
    assert stage.plays_left() == ["finish"]


def test_a_crash_is_requeued_and_noted(cluster: SlurmCluster, tmp_path: Path) -> None:
    stage = Stage(cluster, tmp_path, "crash", "finish").submit()
    said = stage.ends("COMPLETED", 0)
    assert "without a word" in said
    first, second = read_attempts(stage.paths)
    outcome = json.loads(stage.paths.outcome(1).read_text())
    assert outcome["outcome"] == "interrupted"
    assert "Killed" in outcome["message"]
    assert "last lines of rank 0: a  last    word;  and one; more" in outcome["message"]
    assert (first.outcome, second.outcome) == ("interrupted", "finished")
    assert not stage.paths.without_progress.exists(), "a finished run has nothing to count"


def test_a_lost_rank_is_named_with_what_it_said_last(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Where the others are killed before they can write it down themselves."""
    plays = ("lose", "lose")
    stage = Stage(cluster, tmp_path, *plays, ranks_per_node=2, max_attempts=2).submit()
    said = stage.ends("FAILED", 1)
    told = "task 1: Killed and no word; last lines of rank 1: of; memory; soon"
    for attempt in read_attempts(stage.paths):
        assert attempt.message is not None and told in attempt.message
    for text in (said, json.loads(stage.paths.failed.read_text())["reason"]):
        assert "task 1: Killed, without a word; last lines of rank 1: of; memory; soon" in text


def test_it_stops_when_asked_and_is_requeued(cluster: SlurmCluster, tmp_path: Path) -> None:
    stage = Stage(cluster, tmp_path, "train 300", "finish").submit()
    stage.wait_for("training")
    cluster.run("scancel", "--batch", "--signal=USR2", stage.job)
    assert "the job is requeued" in stage.ends("COMPLETED", 0)
    assert cluster.job(stage.job)["Restarts"] == "1"


def test_a_signal_before_any_attempt_only_costs_the_start(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    stage = Stage(cluster, tmp_path, "deaf", "finish").submit()
    stage.wait_for("training")
    cluster.run("scancel", "--batch", "--signal=USR2", stage.job)
    assert "stopped before it began" in stage.ends("COMPLETED", 0)


def test_a_rank_that_is_killed_before_any_attempt_is_started_again(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    """For memory, or by a node that goes down: not a fault of the run, but it is counted."""
    stage = Stage(cluster, tmp_path, "die", "die", "finish", max_attempts=2).submit()
    assert "2 attempts in a row without a new checkpoint" in stage.ends("FAILED", 1)
    assert stage.plays_left() == ["finish"]


# srun that takes its time to create the step, as on a busy controller, and is deaf meanwhile.
SLOW_SRUN = """#!/bin/bash
trap '' USR2
echo "the step is being made" >&2
sleep 3
exec env --default-signal=USR2 {srun} "$@"
"""


def test_a_signal_while_the_step_is_being_made_is_not_lost(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "srun").write_text(SLOW_SRUN.format(srun=shutil.which("srun")))
    (tools / "srun").chmod(0o755)
    stage = Stage(cluster, tmp_path, "train 300", "finish")
    start = "harness_step srun"
    assert start in stage.text()
    stage.change = (start, f"harness_step {tools}/srun")
    stage.submit()
    # Not only the job: a signal before the step is another matter, see above.
    stage.wait_for("the step is being made", "err")
    cluster.run("scancel", "--batch", "--signal=USR2", stage.job)
    assert "the job is requeued" in stage.ends("COMPLETED", 0)
    assert "asked by USR2" in stage.log("out").read_text()


def test_a_cancelled_run_stays_where_it_is(cluster: SlurmCluster, tmp_path: Path) -> None:
    stage = Stage(cluster, tmp_path, "train 300", "finish").submit()
    stage.wait_for("training")
    stage.paths.cancelled.touch()
    cluster.run("scancel", "--batch", "--signal=USR2", stage.job)
    assert "harness resume" in stage.ends("FAILED", 75)
    assert stage.plays_left() == ["finish"]


def test_scancel_by_anybody_is_no_reason_to_requeue(cluster: SlurmCluster, tmp_path: Path) -> None:
    stage = Stage(cluster, tmp_path, "train 300", "finish").submit()
    stage.wait_for("training")
    cluster.run("scancel", stage.job)
    stage.wait_for("the job was cancelled", "err")
    assert cluster.wait_until_ended(stage.job) == "CANCELLED"
    assert cluster.job(stage.job)["Restarts"] == "0"
    assert json.loads(stage.paths.outcome(1).read_text())["outcome"] == "stopped"


def test_by_hand_where_that_is_wanted(cluster: SlurmCluster, tmp_path: Path) -> None:
    stage = Stage(cluster, tmp_path, "train 300", "finish", continue_by="none").submit()
    stage.wait_for("training")
    cluster.run("scancel", "--batch", "--signal=USR2", stage.job)
    assert "next: harness resume" in stage.ends("FAILED", 75)


@on("no_requeue")
def test_a_chain_goes_on_and_ends_with_the_run(cluster: SlurmCluster, tmp_path: Path) -> None:
    wanted = {"continue_by": "chain", "max_attempts": 5}
    stage = Stage(cluster, tmp_path, "train 300", "crash", "finish", **wanted).submit()
    stage.wait_for("training", task=0)
    # SLURM 22.05 ends with 229 here although the signal arrives.
    cluster.run("scancel", "--batch", "--signal=USR2", f"{stage.job}_0", check=False)
    stage.wait_for("finish", task=2)
    for task, state in enumerate(("FAILED", "FAILED", "COMPLETED")):
        assert cluster.wait_until_ended(f"{stage.job}_{task}") == state
    assert "the next job of the chain goes on" in stage.log(task=0).read_text()
    # Nothing of it waits any more, and nothing more was started.
    assert cluster.run("squeue", "-h", "-j", stage.job, "-t", "PENDING").stdout == ""
    assert not stage.log(task=3).exists()
    assert not stage.plays_left()


def test_a_chain_that_cannot_begin_ends_with_its_first_job(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    wanted = {"continue_by": "chain", "max_attempts": 5}
    stage = Stage(cluster, tmp_path, "leave 1", "finish", **wanted).submit()
    assert cluster.wait_until_ended(f"{stage.job}_0") == "FAILED"
    stage.wait_for("before training began", "err", task=0)
    waiting = ["squeue", "-h", "-j", stage.job, "-t", "PENDING"]
    wait_until(lambda: not cluster.run(*waiting, check=False).stdout, "no job of it waits", 30)
    assert stage.plays_left() == ["finish"]
    assert not stage.log(task=2).exists()


@on("no_user_signal")
def test_with_sigterm_alone_it_saves_and_is_requeued(cluster: SlurmCluster, tmp_path: Path) -> None:
    stage = Stage(cluster, tmp_path, "train 300", "finish").submit()
    stage.wait_for("training")
    cluster.wait_for_state(preempt(cluster), "COMPLETED", timeout_s=120)
    assert "the job is requeued" in stage.ends("COMPLETED", 0)
    assert "asked by TERM" in stage.log("out").read_text()


def test_preemption_and_time_limit(cluster: SlurmCluster, tmp_path: Path) -> None:
    limited = Stage(
        cluster, tmp_path / "a", "train 300", "finish", partition="high", time_s=60, lead_s=59
    ).submit()
    stubborn = Stage(cluster, tmp_path / "b", "stubborn", "finish").submit()
    willing = Stage(cluster, tmp_path / "c", "train 300", "finish").submit()
    for stage in (limited, stubborn, willing):
        stage.wait_for("training")
    cluster.wait_for_state(preempt(cluster), "COMPLETED", timeout_s=150)
    for stage in (limited, stubborn, willing):
        assert "requeued" in stage.ends("COMPLETED", 0) or stage is stubborn
        assert cluster.job(stage.job)["Restarts"] == "1"
    # Who hears nothing is killed at the end of the grace time, and is requeued by SLURM itself.
    assert read_attempts(stubborn.paths)[0].outcome is None
