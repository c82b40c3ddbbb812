"""On a real SLURM: no run is rolled back under a job that waits or runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.checkpoint import Store
from tests.cluster.looked_after import LookedAfter
from tests.cluster.on import on
from tests.cluster.slurm_cluster import SlurmCluster


@on("default", "no_accounting")
def test_a_job_that_waits_or_runs_keeps_its_checkpoints(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = LookedAfter(cluster, monkeypatch, tmp_path / "runs")
    store = Store(run.paths.checkpoints, keep=9, access="private", log=print)
    for step in (2, 4):
        store.save(step, {}, {"position": {"step": step}})
    back = ("checkpoints", "--roll-back", "2")
    job = run.submit("train", "wait", options=("--hold",))
    said = run.call(*back, code=2)
    assert f"a job of this run is pending, got job {job}" in said
    assert "harness cancel" in said
    cluster.run("scontrol", "release", job)
    run.wait_until(lambda facts: facts["state"] == "running" and facts["step"], "running")
    assert f"a job of this run is running, got job {job}" in run.call(*back, code=2)
    assert run.paths.checkpoint(4).is_dir()
    run.call("cancel")
    cluster.wait_until_ended(job)
    newest = max(info.step for info in store.list())
    said = run.call(*back)
    assert f"next           harness resume {run.paths.root}" in said
    assert f"{newest}\n" in said
    assert not run.paths.cancelled.exists()
    facts = run.status()
    assert (facts["state"], facts["step"]) == ("stopped", 2)
    assert facts["reason"] == "it was rolled back to step 2"
    assert json.loads(run.call("checkpoints", "--json"))["next"] == 2
