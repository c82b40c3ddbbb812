"""Looking after runs on a real SLURM: every state seen, logs followed, jobs cancelled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.launch.jobfacts import own_name
from harness.launch.looking import look_at
from harness.launch.queue import ask, live
from harness.launch.slurm import Slurm
from harness.launch.watching import watch
from harness.runs.jobs import Job, record_job
from harness.runs.registry import find_runs
from tests.cluster.looked_after import LookedAfter
from tests.cluster.on import on
from tests.cluster.processes import wait_until
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.test_cluster import preempt
from tests.unit.runs_helpers import make_run

BOTH = ("default", "no_accounting")
New = Callable[..., LookedAfter]


@pytest.fixture
def new(cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> New:
    """``new()``: another run on the cluster."""
    return lambda **more: LookedAfter(cluster, monkeypatch, tmp_path / "runs", **more)


class CountingSlurm(Slurm):
    """Counts the commands that are called, without the ping before the first."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(environment)
        self.called: list[str] = []

    def run(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        if words[:2] != ("scontrol", "ping"):
            self.called.append(words[0])
        return super().run(*words, **more)


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


@on(*BOTH)
def test_all_runs_with_one_question(cluster: SlurmCluster, new: New) -> None:
    slurm = CountingSlurm(cluster.environment())
    runs = [new() for _ in range(4)]
    paths = [run.paths for run in runs]
    look_at(paths, slurm)
    assert slurm.called == [], "no run was submitted"
    runs[0].submit("train", options=("--hold",))
    runs[1].submit("finish")
    runs[1].wait_for("finished")
    record_job(runs[2].paths, Job("4000000"))
    record_job(runs[3].paths, Job("4000001"))
    looks, note = look_at(paths, slurm)
    assert note is None
    assert sorted(slurm.called) == ["sacct", "squeue"]
    states = [look.joined.state for look in looks]
    assert states == ["queued", "finished", "interrupted", "interrupted"]
    assert "SLURM no longer knows job 4000000" in str(looks[2].joined.reason)
    gone = [Job("4000000")]
    assert ask(gone, slurm)["4000000"].state == "UNKNOWN", "asked alone, squeue calls it an error"
    slurm.called.clear()
    looks, _ = look_at(paths, None)
    assert slurm.called == []
    assert looks[0].joined.state == "new"
    text = runs[2].call("status", "--no-scheduler")
    assert "is no longer known" not in text


def test_a_thousand_runs_with_two_commands(cluster: SlurmCluster, new: New, tmp_path: Path) -> None:
    first = new()
    job = first.submit("train", options=("--hold",))
    for number in range(999):
        run = make_run(tmp_path / "runs", f"name{number % 7}", f"20260101-{number:06d}-aaaa")
        record_job(run, Job(str(4_000_000 + number)))
    slurm = CountingSlurm(cluster.environment())
    looks, _ = look_at(find_runs(tmp_path / "runs"), slurm)
    assert slurm.called == ["squeue", "sacct"]
    assert len(looks) == 1000
    queued = [look for look in looks if look.joined.state == "queued"]
    assert [look.job.id for look in queued if look.job] == [job]


def test_an_id_that_means_another_job_here(cluster: SlurmCluster, new: New) -> None:
    """As of a run that came from another cluster; its job's id is taken here."""
    foreign, taken = new(name="foreign"), new(name="taken")
    job = taken.submit("train", options=("--hold",))
    record_job(foreign.paths, Job(job))
    facts = foreign.status()
    assert (facts["state"], facts["job"]["state"]) == ("interrupted", "UNKNOWN")
    assert foreign.call("list").count("queued") == 1
    assert live(foreign.paths, Slurm()) is None, "it can be submitted here"
    said = foreign.call("cancel", code=2)
    assert f"job {job} is not of this run, got a job named taken, submitted by" in said
    assert not foreign.paths.cancelled.exists()
    # One with the same name that somebody else has submitted there.
    same = new(name="taken")
    record_job(same.paths, Job(job, user="somebody"))
    assert same.status()["job"]["state"] == "UNKNOWN"
    assert live(same.paths, Slurm()) is None
    found = live(taken.paths, Slurm())
    assert found is not None
    assert found[0].user == found[1].user == own_name()
    assert "was taken off the queue" in taken.call("cancel")


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


def down(cluster: SlurmCluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leads the environment to a controller that does not answer."""
    for name in ("slurm.conf", "gres.conf"):
        text = (cluster.folder / name).read_text()
        lines = [
            "SlurmctldPort=1"
            if line.startswith("SlurmctldPort=")
            else "MessageTimeout=2"
            if line.startswith("MessageTimeout=")
            else line
            for line in text.splitlines()
        ]
        (folder / name).write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))


def test_a_controller_that_is_down(
    cluster: SlurmCluster, new: New, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new()
    run.submit("train")
    run.wait_for("running")
    down(cluster, tmp_path, monkeypatch)
    text = run.call("status")
    assert text.startswith("SLURM does not answer")
    assert "what the run's files say:" in text
    assert "is running" in text
    assert "SLURM does not answer" in run.call("list")
    assert "SLURM does not answer" in run.call("cancel", code=3)
    assert not run.paths.cancelled.exists()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert "there is no SLURM on this machine" in run.call("status")


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
