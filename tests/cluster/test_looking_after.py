"""Looking after runs on a real SLURM: every state seen, logs followed, jobs cancelled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from harness.launch.queue import live
from harness.launch.slurm import Slurm
from harness.launch.watching import watch
from tests.cluster.looked_after import CountingSlurm, LookedAfter, New
from tests.cluster.on import on
from tests.cluster.processes import wait_until
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.test_cluster import preempt

BOTH = ("default", "no_accounting")


@pytest.fixture
def new(cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> New:
    """``new()``: another run on the cluster."""
    return lambda **more: LookedAfter(cluster, monkeypatch, tmp_path / "runs", **more)


@on(*BOTH)
def test_the_life_of_a_run(cluster: SlurmCluster, new: New) -> None:
    run = new()
    assert run.status()["state"] == "new"
    job = run.submit("train", "wait", options=("--hold",))
    facts = run.status()
    assert facts["state"] == "queued"
    assert (facts["job"]["state"], facts["job"]["reason"]) == ("PENDING", "JobHeldUser")
    text = run.call("status")
    assert "is queued: it is held by its user" in text
    assert f"scontrol release {job}" in text
    assert f"job {job}: it is held by its user" in run.call("list")
    assert "has printed nothing yet" in run.call("logs", code=2)
    cluster.run("scontrol", "release", job)
    facts = run.wait_until(lambda f: f["state"] == "running" and f["step"], "running")
    assert facts["job"]["nodes"] in ("n1", "n2", "n3")
    assert facts["job"]["limit_s"] == 600
    text = run.call("status")
    assert "Loss 0.5, about 10 min left" in text
    assert f"job            {job}, running in partition low" in text
    assert "of 10 min" in text
    found = live(run.paths, Slurm())
    assert found is not None
    assert found[1].state == "RUNNING"
    assert "running" in run.call("list")
    follower = run.start("logs", "-f", str(run.paths.root))
    high = preempt(cluster)
    facts = run.wait_for("waiting")
    assert facts["attempts"][0]["outcome"] == "stopped"
    assert "it saved and left" in facts["reason"]
    cluster.wait_until_ended(high)
    facts = run.wait_for("starting")
    assert facts["job"]["restarts"] == 1
    (run.paths.root / "go").touch()
    facts = run.wait_until(lambda f: f["state"] == "running", "running again")
    assert facts["attempts"][1]["job"] == job
    assert facts["attempts"][1]["restart"] == 1
    assert f"job {job} was asked to save and leave" in run.call("cancel")
    facts = run.wait_for("cancelled")
    assert "with harness cancel" in facts["reason"]
    assert [attempt["outcome"] for attempt in facts["attempts"]] == ["stopped", "stopped"]
    cluster.wait_until_ended(job)
    assert "no job of this run waits or runs" in run.call("cancel", code=2)
    assert "harness resume" in run.call("status")
    check_followed(run, follower)


def check_followed(run: LookedAfter, follower: subprocess.Popen[str]) -> None:
    """One stream over both starts, nothing twice; it ends with the run."""
    said, _ = follower.communicate(timeout=90)
    assert follower.returncode == 0
    assert "rank 0 plays wait" in said
    steps = [line for line in said.splitlines() if line.startswith("step ")]
    assert len(steps) == len(set(steps)) > 1
    log = run.paths.job_log(run.job, 0, "out").read_text().splitlines()
    assert steps[-1] == [line for line in log if line.startswith("step ")][-1]


@on(*BOTH)
def test_why_a_run_failed(cluster: SlurmCluster, new: New) -> None:
    early, nan, ranks, data = new(), new(), new(), new()
    early.submit("raise")
    nan.submit("nan")
    data.submit("refuse")
    ranks.submit("broken-rank", ranks_per_node=3, continue_by="none")
    facts = early.wait_for("failed")
    assert "before training began: it ended with exit code 3" in facts["reason"]
    text = early.call("status")
    assert "RuntimeError: the backbone is not there" in text
    assert "harness resume" in text
    assert len(early.call("status", "--lines", "1").splitlines()) < len(text.splitlines())
    facts = nan.wait_for("failed")
    assert facts["reason"] == "the loss is not finite"
    facts = ranks.wait_for("failed")
    assert facts["failure"]["rank"] == 1
    text = ranks.call("status")
    assert "rank 1 failed first (Exited with exit code 1 on n" in text
    assert "ValueError: rank 1 cannot read its shard" in text
    lines = ranks.call("logs", "--rank", "all", "--err").splitlines()
    assert "[1] ValueError: rank 1 cannot read its shard" in lines
    assert "[2] waits for the others" in lines
    assert "rank 2 plays broken-rank" in ranks.call("logs", "--rank", "2", "--out")
    assert "that rank has no log, got 7, allowed: 0 to 2" in ranks.call("logs", "--rank=7", code=2)
    assert "no such job" in ranks.call("logs", "--job", "1234567", code=2)
    data.wait_for("stopped")
    listed = json.loads(early.call("list", "--json"))
    assert sorted(row["state"] for row in listed) == ["failed"] * 3 + ["stopped"]
    assert "RuntimeError" in early.call("status", "--watch", code=3)
    assert "stopped     no such data" in data.call("status", "--watch", code=4)
    assert data.status()["job"]["exit_code"] == 4


@on(*BOTH)
def test_cancelled_in_the_queue_by_the_user_and_by_others(cluster: SlurmCluster, new: New) -> None:
    own, killed, now, impossible = new(), new(), new(), new()
    own.submit("train", options=("--hold",))
    job = killed.submit("train", options=("--hold",))
    impossible.submit("train", options=(f"--dependency=afterok:{job}", "--kill-on-invalid-dep=no"))
    assert impossible.status()["state"] == "queued"
    cluster.run("scancel", job)
    assert "was taken off the queue" in own.call("cancel")
    assert own.status()["state"] == "cancelled"
    facts = killed.wait_for("cancelled")
    by = "by " if cluster.configuration.accounting else "it was cancelled"
    killed.wait_until(lambda f: by in f["reason"], "who it was")
    facts = impossible.wait_until(
        lambda f: f["job"]["reason"] == "DependencyNeverSatisfied", "never satisfied"
    )
    assert "so it never starts" in facts["reason"]
    assert "harness cancel" in facts["next"]
    now.submit("train")
    now.wait_for("running")
    assert "was ended" in now.call("cancel", "--now")
    now.wait_for("cancelled")


def test_a_chain_goes_on_and_is_cancelled_as_a_whole(cluster: SlurmCluster, new: New) -> None:
    run = new()
    job = run.submit("train", "train", continue_by="chain", max_attempts=4)
    facts = run.wait_until(lambda f: f["state"] == "running" and f["step"], "running")
    assert facts["job"]["id"] == job
    assert (facts["job"]["task"], facts["job"]["waiting"]) == (0, 3)
    assert f"{job}, task 0" in run.call("status")
    # Beside tasks that wait, scancel sends the signal again until the task is gone, and complains.
    cluster.run("scancel", "--batch", "--signal=USR2", f"{job}_0", check=False)
    facts = run.wait_until(
        lambda f: f["state"] == "running" and f["job"]["task"] == 1, "the next of the chain"
    )
    assert facts["attempts"][1]["job"] == f"{job}_1"
    assert "step" in run.call("logs", "--job", f"{job}_0", "--out")
    assert f"job {job}_1 was asked to save" in run.call("cancel")
    facts = run.wait_for("cancelled")
    assert [attempt["outcome"] for attempt in facts["attempts"]] == ["stopped", "stopped"]
    wait_until(lambda: live(run.paths, Slurm()) is None, "the whole chain gone", 60)


def test_a_node_that_fails(cluster: SlurmCluster, new: New) -> None:
    lost, again = new(), new()
    lost.submit("deaf", options=("--nodelist=n1",), continue_by="none")
    again.submit("deaf", options=("--nodelist=n2",))
    for run in (lost, again):
        run.wait_for("running")
    cluster.run("scontrol", "update", "nodename=n1,n2", "state=down", "reason=test")
    # Here the node's processes live on for a moment, so the batch script may say a last word.
    lost.wait_until(lambda f: f["state"] in ("failed", "interrupted"), "over")
    lost.wait_until(lambda f: "a node of it failed (n1)" in f["reason"], "and why")
    facts = again.wait_for("waiting")
    assert "its last attempt was ended without a word" in facts["reason"]


def test_a_run_that_was_moved_and_one_that_is_gone(cluster: SlurmCluster, new: New) -> None:
    run = new()
    job = run.submit("finish")
    run.wait_for("finished")
    moved = run.paths.root.parent / "archive"
    run.paths.root.rename(moved)
    run.paths = type(run.paths)(moved)
    facts = run.status()
    assert (facts["state"], facts["job"]["id"]) == ("finished", job)
    assert "rank 0 plays finish" in run.call("logs")
    shutil.rmtree(moved)
    assert "no run is named so" in run.call("status", code=2)
    assert "no run is named so" in run.call("cancel", code=2)


def test_watching_ends_with_the_run_and_leaves_it_alone(
    cluster: SlurmCluster, new: New, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new()
    run.submit("train", "finish")
    run.wait_for("running")
    watcher = run.start("status", "--watch", str(run.paths.root))
    assert watcher.stdout is not None
    first = watcher.stdout.readline()
    assert first.startswith("running")
    os.kill(watcher.pid, signal.SIGINT)
    said, _ = watcher.communicate(timeout=60)
    assert watcher.returncode == 130
    assert "the run goes on as before" in said
    assert run.status()["state"] == "running"
    slurm = CountingSlurm(dict(os.environ))
    lines: list[str] = []

    def say(line: str) -> None:
        if not lines:
            cluster.run("scancel", "--batch", "--signal=USR2", run.job)
        lines.append(line)

    assert watch(run.paths, 2, slurm=slurm, say=say, every_s=0.2) == 0
    seen = [line.split()[0] for line in lines]
    assert seen[0] == "running"
    assert "waiting" in seen
    assert seen[-1] == "finished"
    assert len(seen) < 20, lines
