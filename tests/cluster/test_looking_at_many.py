"""Asking SLURM about runs: once for all of them, of another cluster's ids, and when it is down."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.launch.jobfacts import own_name
from harness.launch.looking import look_at
from harness.launch.queue import ask, live
from harness.launch.slurm import Slurm
from harness.runs.jobs import Job, record_job
from harness.runs.registry import find_runs
from tests.cluster.looked_after import CountingSlurm, LookedAfter, New
from tests.cluster.on import on
from tests.cluster.slurm_cluster import SlurmCluster
from tests.unit.runs_helpers import make_run

BOTH = ("default", "no_accounting")


@pytest.fixture
def new(cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> New:
    """``new()``: another run on the cluster."""
    return lambda **more: LookedAfter(cluster, monkeypatch, tmp_path / "runs", **more)


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
