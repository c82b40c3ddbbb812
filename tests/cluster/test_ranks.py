"""Runs of several ranks on several nodes, by ``harness submit``: equal results, and lost ranks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.runs.attempts import read_attempts
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from tests.cluster.harness_cli import (
    Harness,
    heartbeat,
    wait_for,
    wait_for_step,
    wait_until_finished,
)
from tests.cluster.slurm_cluster import SlurmCluster
from tests.horovod_here import need_horovod
from tests.local.training_helpers import CLASSES, assert_equal_losses, curve, mischief, write_spec

TRAINED_S = 600
"""Four ranks that share two busy cores import TensorFlow for a while."""
ON_TWO_NODES = ("-o", "cluster.nodes=2", "-o", "cluster.sbatch={nodelist: 'n[1-2]'}")
JOBS: dict[str, tuple[str, ...]] = {
    "horovod": (*ON_TWO_NODES, "-o", "cluster.ranks_per_node=2", "-o", "cluster.strategy=horovod"),
    "multiworker": (*ON_TWO_NODES, "-o", "cluster.strategy=multiworker"),
    "mirrored": ("-o", "cluster.strategy=mirrored", "-o", "cluster.replicas_per_rank=2"),
    "single": ("-o", "cluster.strategy=single"),
}


@pytest.fixture(scope="module")
def work(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_backbone: Path,
    write_pictures: Callable[..., Path],
) -> Path:
    """A folder with spec.yaml: two epochs of 27 steps, with a pause after every few."""
    folder = tmp_path_factory.mktemp("ranks")
    # The last batch of an epoch is ragged.
    write_pictures(folder / "data" / "train", CLASSES, 95, 16)
    write_pictures(folder / "data" / "test", CLASSES, 3, 16)
    changes = {
        **mischief(folder, sleep_s=0.7),
        "training.phases": [{"name": "head", "epochs": 2, "learning_rate": 0.003}],
        "checkpoint.every": "3 steps",
        "cluster.partition": "low",
        "cluster.cpus_per_rank": 1,
    }
    write_spec(folder, tiny_backbone, folder / "data", **changes)
    return folder


@pytest.fixture(scope="module")
def runs(running_cluster: SlurmCluster, work: Path) -> dict[str, RunPaths]:
    """One spec under each strategy, all at once, and two of them on the same two nodes.

    Undisturbed but for the one with most ranks, which is stopped in the second epoch.
    """
    need_horovod()
    harness = Harness(running_cluster, work)
    spec = str(work / "spec.yaml")
    made = {name: harness.submit(spec, "--new", *words) for name, words in JOBS.items()}
    paths, job = made["horovod"]
    wait_for_step(paths, 1, TRAINED_S)
    epoch = heartbeat(paths)["total_steps"] // 2
    wait_for_step(paths, epoch + epoch // 3, TRAINED_S)
    running_cluster.run("scancel", "--batch", "--signal=USR2", job)
    for run, _ in made.values():
        wait_until_finished(run, TRAINED_S)
    for name, (_, submitted) in made.items():
        # The controller may have forgotten those that ended long before the others.
        starts = "REQUEUED COMPLETED" if name == "horovod" else "COMPLETED"
        running_cluster.wait_for_accounting(submitted, starts, "state")
    return {name: run for name, (run, _) in made.items()}


def test_one_spec_gives_equal_losses_on_one_device_and_on_several_nodes(
    runs: dict[str, RunPaths],
) -> None:
    assert len(curve(runs["single"].root)) > 20
    for name in ("horovod", "multiworker", "mirrored"):
        assert_equal_losses(runs[name].root, runs["single"].root)


def test_a_run_says_what_it_is_distributed_over(runs: dict[str, RunPaths]) -> None:
    found = {name: read_record(paths)["distribution"] for name, paths in runs.items()}
    assert {name: one["name"] for name, one in found.items()} == {name: name for name in JOBS}
    assert "4 ranks by srun" in found["horovod"]["why"]
    log = next(runs["horovod"].slurm.glob("*_0_log.err"))
    assert f"horovod: {found['horovod']['why']}" in log.read_text()
    assert "2 ranks by srun" in found["multiworker"]["why"]


def test_stopped_in_the_midst_of_an_epoch_all_ranks_go_on(runs: dict[str, RunPaths]) -> None:
    stopped, finished = read_attempts(runs["horovod"])
    assert (stopped.outcome, finished.outcome) == ("stopped", "finished")
    assert finished.from_step == stopped.to_step
    total = heartbeat(runs["horovod"])["total_steps"]
    assert stopped.to_step is not None and stopped.to_step % (total // 2), "within an epoch"
    for name in ("multiworker", "mirrored", "single"):
        assert [one.outcome for one in read_attempts(runs[name])] == ["finished"]


def test_each_rank_has_a_log(cluster: SlurmCluster, work: Path, runs: dict[str, RunPaths]) -> None:
    harness = Harness(cluster, work)
    run = str(runs["horovod"].root)
    assert harness.call("logs", run, "--rank", "3", "--err")
    told = harness.call("logs", run, "--rank", "all", "--err").splitlines()
    assert {line[:3] for line in told if line.startswith("[")} == {"[0]", "[1]", "[2]", "[3]"}
    _, said = harness.said("logs", run, "--rank", "4", code=2)
    assert "0 to 3, or all" in said


# The second rank is killed, as for want of memory, in the first start of the job.
FALL = '''
import os, signal, sys
import tf_keras
from harness.plugins import register

@register("callback", "fall")
class Fall(tf_keras.callbacks.Callback):
    """Has the second rank killed at a step."""

    def on_train_batch_end(self, batch, logs=None):
        at = int(self.model.optimizer.iterations.numpy())
        first = os.environ.get("SLURM_RESTART_COUNT", "0") == "0"
        if at >= 7 and first and os.environ["SLURM_PROCID"] == "1":
            print("memory is running out", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    def get_state(self):
        return {}

    def set_state(self, state):
        pass
'''


def test_a_killed_rank_is_named_and_the_run_goes_on(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    need_horovod()
    (tmp_path / "fall.py").write_text(FALL)
    harness = Harness(cluster, tmp_path)
    changes = {
        "plugins": [str(tmp_path / "fall.py")],
        "training.callbacks": [{"plugin": "fall"}],
        "cluster.nodes": 2,
        "cluster.strategy": "horovod",
        "cluster.sbatch": {"nodelist": "n[1-2]"},
    }
    paths, job = harness.submit(spec(**changes))
    wait_for(paths, lambda: len(read_attempts(paths)) == 2, "the second attempt", TRAINED_S)
    lost = read_attempts(paths)[0]
    assert (lost.outcome, lost.exit_code) == ("interrupted", 75)
    assert lost.message is not None
    # As the first rank tells it, or the batch script where SLURM has been faster.
    assert "rank 1 (node n2, " in lost.message or "n2: task 1: Killed" in lost.message
    assert "memory is running out" in lost.message
    assert lost.message in harness.call("status", str(paths.root))
    wait_until_finished(paths, TRAINED_S)
    assert cluster.wait_until_ended(job) == "COMPLETED"
    assert [one.outcome for one in read_attempts(paths)] == ["interrupted", "finished"]
    again = read_attempts(paths)[1].from_step
    assert again is not None and again >= 3, "from a checkpoint"
    assert curve(paths.root)


def test_a_rank_that_never_starts_is_named(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    """It hangs before harness begins, as on a node whose file system does."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "python3").write_text(
        f'#!/bin/sh\n[ "$SLURM_PROCID" != 1 ] || exec sleep 1000\nexec {sys.executable} "$@"\n'
    )
    (bin_folder / "python3").chmod(0o755)
    (tmp_path / "init.sh").write_text(f"export PATH='{bin_folder}':$PATH\n")
    site = tmp_path / "site.yaml"
    site.write_text(
        f"name: hasty\nenvironment: {{init: '{tmp_path}/init.sh', "
        "variables: {HARNESS_MEETING_S: '5'}}\n"
    )
    harness = Harness(cluster, tmp_path)
    paths, job = harness.submit(spec(**{"cluster.site": str(site), "cluster.nodes": 2}))
    assert cluster.wait_until_ended(job, timeout_s=240) == "FAILED"
    assert cluster.job(job)["ExitCode"] == "3:0"
    (attempt,) = read_attempts(paths)
    assert (attempt.outcome, attempt.exit_code) == ("refused", 3)
    said = "rank 1 (none came from node n2) did not come within 5 s"
    assert attempt.message is not None and said in attempt.message
    assert said in harness.call("status", str(paths.root))
    assert said in harness.call("logs", str(paths.root), "--err")
