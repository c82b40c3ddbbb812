"""Runs submitted with ``harness submit``, trained on the nodes of a real SLURM, and disturbed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.attempts import read_attempts
from harness.runs.paths import RunPaths
from tests.cluster.harness_cli import (
    Harness,
    heartbeat,
    wait_for,
    wait_for_step,
    wait_until_finished,
)
from tests.cluster.on import on
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.test_cluster import preempt
from tests.local.training_helpers import curve, mischief, write_spec

ROOT = Path(__file__).resolve().parents[2]
# A home that nobody can write to, root included: a folder can be made nowhere in it.
READ_ONLY_HOME = "/proc"
# A callback that keeps a step from ending, and says so, until somebody takes its word away.
HOLDS = '''
import pathlib, time
import tf_keras
from harness.plugins import register

@register("callback", "holds")
class Holds(tf_keras.callbacks.Callback):
    """Waits at a step, once in a process."""

    def __init__(self, at, word):
        super().__init__()
        self.at, self.word = at, pathlib.Path(word)

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == self.at:
            self.word.touch()
            while self.word.exists():
                time.sleep(0.05)

    def get_state(self):
        return {}

    def set_state(self, state):
        pass
'''


@pytest.fixture
def pictures(tmp_path: Path, write_pictures: Callable[..., Path]) -> Path:
    """Train and test pictures of three classes."""
    write_pictures(tmp_path / "data" / "train", ["blue", "green", "red"], 16)
    write_pictures(tmp_path / "data" / "test", ["blue", "green", "red"], 4)
    return tmp_path / "data"


@pytest.fixture
def slow_spec(tmp_path: Path, pictures: Path, tiny_backbone: Path) -> Callable[..., Path]:
    """A spec whose calls of some steps each take ``sleep_s`` longer, so that it can be met."""

    def write(sleep_s: float, **changes: Any) -> Path:
        more = {"cluster.partition": "low", "cluster.cpus_per_rank": 2, **changes}
        slow = mischief(tmp_path, sleep_s=sleep_s)
        return write_spec(tmp_path, tiny_backbone, pictures, **{**slow, **more})

    return write


def check_one_run(harness: Harness, paths: RunPaths, *outcomes: str) -> None:
    """One run in the registry, with these attempts, and one curve."""
    (row,) = harness.json("list")
    assert (row["path"], row["state"]) == (str(paths.root), "finished")
    attempts = read_attempts(paths)
    assert [one.outcome for one in attempts] == list(outcomes)
    for before, after in itertools.pairwise(attempts):
        assert after.from_step == before.to_step, "it went on from where it was"
    told = curve(paths.root)
    assert told, "there are metrics"
    lines = [dict(line) for line in told]
    steps = [
        line["step"] for line in lines if line["split"] == "train" and not line.get("epoch_end")
    ]
    every = steps[1] - steps[0]
    assert sorted(set(steps)) == list(range(every, max(steps) + 1, every)), "no gap"


def test_the_quickstart_from_submission_to_prediction(
    cluster: SlurmCluster, tmp_path: Path, quickstart: Path
) -> None:
    """Held, queued, running, preempted in the midst of an epoch, waiting, finished, used."""
    harness = Harness(cluster, tmp_path, HOME=READ_ONLY_HOME)
    spec = str(ROOT / "jobs" / "quickstart.yaml")
    held_up = tmp_path / "held-up"
    (tmp_path / "holds.py").write_text(HOLDS)
    epoch = 28
    options = f"{{at: {epoch + epoch // 3}, word: {held_up}}}"
    paths, job = harness.submit(
        spec,
        *("-o", "cluster.partition=low", "-o", "cluster.sbatch={hold: true}"),
        *("-o", "logging.every=1 steps", "-o", f"plugins=[{tmp_path / 'holds.py'}]"),
        *("-o", f"training.callbacks=[{{plugin: holds, options: {options}}}]"),
    )
    held = harness.status(paths)
    assert (held["state"], held["job"]["id"]) == ("queued", job)
    cluster.run("scontrol", "release", job)
    wait_for(paths, lambda: harness.status(paths)["state"] == "running", "training")
    wait_for(paths, held_up.exists, "the step that is held up")
    assert heartbeat(paths)["total_steps"] == 5 * epoch
    high = preempt(cluster)
    log = paths.job_log(job, 0, "err")
    wait_for(paths, lambda: "saves at the next step, then stops" in log.read_text(), "the signal")
    held_up.unlink()
    wait_for(paths, lambda: read_attempts(paths)[0].outcome == "stopped", "the stop", 120)
    stopped_at = read_attempts(paths)[0].to_step
    assert stopped_at is not None
    assert stopped_at % epoch, "in the midst of an epoch"
    wait_for(paths, lambda: harness.status(paths)["state"] == "waiting", "the queue", 60)
    cluster.wait_for_state(high, "COMPLETED", timeout_s=120)
    wait_until_finished(paths)
    check_one_run(harness, paths, "stopped", "finished")
    assert cluster.wait_until_ended(job) == "COMPLETED"
    done = harness.status(paths)
    assert done["state"] == "finished"
    assert done["metrics"]["test_accuracy"] > 0.85
    found = harness.json("predict", str(paths.root), str(quickstart / "heldback"))
    assert sum(Path(one["file"]).stem == one["label"] for one in found) >= 9


def test_a_time_limit_is_met_and_gone_beyond(
    cluster: SlurmCluster, tmp_path: Path, slow_spec: Callable[..., Path]
) -> None:
    """It stops by itself: its steps are so slow that SLURM's signal would come too late."""
    harness = Harness(cluster, tmp_path)
    phases = [{"name": name, "epochs": 1, "learning_rate": 0.01} for name in ("one", "two")]
    limits = {"cluster.time": "0:02:00", "cluster.signal_lead_s": 10}
    paths, job = harness.submit(str(slow_spec(16.0, **{"training.phases": phases, **limits})))
    assert cluster.job(job)["TimeLimit"] == "00:02:00"
    wait_until_finished(paths, timeout_s=600)
    attempts = read_attempts(paths)
    assert len(attempts) >= 2
    check_one_run(harness, paths, *["stopped"] * (len(attempts) - 1), "finished")
    assert all("its time limit, in" in str(one.message) for one in attempts[:-1])
    assert {one.job for one in attempts} == {job}
    assert [one.restart for one in attempts] == list(range(len(attempts)))


@on("no_accounting", "no_user_signal", "no_requeue")
def test_preempted_it_goes_on_whatever_the_cluster_is_like(
    cluster: SlurmCluster, tmp_path: Path, slow_spec: Callable[..., Path]
) -> None:
    """By requeue; by a chain where the site has set JobRequeue=0."""
    chain = cluster.configuration.name == "no_requeue"
    how = {"cluster.continue_by": "chain", "cluster.max_attempts": 4} if chain else {}
    harness = Harness(cluster, tmp_path)
    paths, job = harness.submit(str(slow_spec(1.0, **how)))
    wait_for_step(paths, 4)
    high = preempt(cluster)
    wait_for(paths, lambda: read_attempts(paths)[0].outcome == "stopped", "the stop", 120)
    cluster.wait_for_state(high, "COMPLETED", timeout_s=120)
    wait_until_finished(paths)
    check_one_run(harness, paths, "stopped", "finished")
    assert [one.job for one in read_attempts(paths)] == (
        [f"{job}_0", f"{job}_1"] if chain else [job] * 2
    )
    cluster.wait_until_ended(f"{job}_1" if chain else job)
    assert cluster.run("squeue", "-h", "-j", job, "-t", "PENDING", check=False).stdout == ""


@on("requeue_refused")
def test_where_it_cannot_go_on_by_itself_the_way_is_told(
    cluster: SlurmCluster, tmp_path: Path, slow_spec: Callable[..., Path]
) -> None:
    harness = Harness(cluster, tmp_path)
    paths, job = harness.submit(str(slow_spec(1.0)))
    wait_for_step(paths, 4)
    cluster.run("scancel", "--batch", "--signal=USR2", job)
    assert cluster.wait_until_ended(job) == "FAILED"
    assert cluster.job(job)["ExitCode"] == "75:0"
    assert "harness resume" in paths.job_log(job, 0, "err").read_text()
    assert heartbeat(paths)["step"] >= 4
    again = harness.json("resume", str(paths.root))
    assert again["job_id"] != job
    wait_until_finished(paths)
    check_one_run(harness, paths, "stopped", "finished")
