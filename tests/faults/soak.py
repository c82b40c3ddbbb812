"""``make soak``: four ranks on two nodes of a real SLURM, ended at random again and again.

Not part of ``make test``: it takes most of an hour.  ``SOAK_KILLS`` (30) and ``SOAK_SEED`` (1) are
variables of the environment.  What was seen goes to ``build/soak.json``.
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.attempts import read_attempts
from harness.runs.paths import RunPaths
from tests.cluster.harness_cli import Harness, wait_for, wait_until_finished
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.test_cluster import preempt
from tests.faults import inject
from tests.horovod_here import need_horovod
from tests.local.training_helpers import (
    CLASSES,
    assert_same_result,
    checkpoint_steps,
    lines,
    mischief,
    write_spec,
)

KILLS, SEED = int(os.environ.get("SOAK_KILLS", "30")), int(os.environ.get("SOAK_SEED", "1"))
PATIENCE_S = 900
SAVES_EVERY = 3
OUT = Path(__file__).resolve().parents[2] / "build" / "soak.json"


def ranks_of(job: str) -> list[int]:
    """The processes of the ranks of a job, of those that run now."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        of_job = f"SLURM_JOB_ID={job}".encode() in variables
        if of_job and b"harness.worker.entry" in words and not words.startswith(b"srun"):
            found.append(int(folder.name))
    return found


def kill_one(cluster: SlurmCluster, job: str, draw: random.Random) -> None:
    """SIGKILL of one rank, or of all."""
    ranks = ranks_of(job)
    for pid in ranks if draw.random() < 0.5 else draw.sample(ranks, 1):
        os.kill(pid, signal.SIGKILL)


def terminate(cluster: SlurmCluster, job: str, draw: random.Random) -> None:
    """SIGTERM of all ranks."""
    for pid in ranks_of(job):
        os.kill(pid, signal.SIGTERM)


def preempted(cluster: SlurmCluster, job: str, draw: random.Random) -> None:
    """By a job of another partition that needs the nodes."""
    preempt(cluster)


def node_down(cluster: SlurmCluster, job: str, draw: random.Random) -> None:
    """One of the two nodes, for a few seconds."""
    node = draw.choice(["n1", "n2"])
    cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=soak")
    time.sleep(3)
    cluster.run("scontrol", "update", f"nodename={node}", "state=resume")


WAYS: dict[str, Callable[[SlurmCluster, str, random.Random], None]] = {
    "SIGKILL": kill_one,
    "SIGTERM": terminate,
    "preemption": preempted,
    "node down": node_down,
}


@pytest.fixture
def spec(tmp_path: Path, tiny_backbone: Path, write_pictures: Callable[..., Path]) -> str:
    """Of some steps more than so many ends cost."""
    write_pictures(tmp_path / "data" / "train", CLASSES, 95, 16)
    epochs = 1 + KILLS * 2 * SAVES_EVERY // 26
    changes: dict[str, Any] = {
        **mischief(tmp_path, sleep_s=0.3),
        "data.test": None,
        "training.phases": [{"name": "head", "epochs": epochs, "learning_rate": 0.003}],
        "checkpoint.every": f"{SAVES_EVERY} steps",
        "logging.every": "1 steps",
        "cluster.partition": "low",
        "cluster.cpus_per_rank": 1,
        "cluster.nodes": 2,
        "cluster.ranks_per_node": 2,
        "cluster.strategy": "horovod",
        "cluster.max_attempts": 2 * KILLS,
        "cluster.sbatch": {"nodelist": "n[1-2]"},
    }
    return str(write_spec(tmp_path, tiny_backbone, tmp_path / "data", **changes))


def test_thirty_random_ends(cluster: SlurmCluster, tmp_path: Path, spec: str) -> None:
    need_horovod()
    harness = Harness(cluster, tmp_path)
    left_alone, _ = harness.submit(spec, "--new")
    wait_until_finished(left_alone, PATIENCE_S)
    paths, job = harness.submit(spec, "--new")
    draw, began = random.Random(SEED), time.monotonic()
    done: collections.Counter[str] = collections.Counter()
    lost: list[int] = []
    while sum(done.values()) < KILLS:
        await_training(paths)
        time.sleep(draw.uniform(0.0, 3.0))
        if paths.finished.exists():
            break
        way = draw.choice(list(WAYS))
        begun, step = len(read_attempts(paths)), inject.last_step(paths.root)
        WAYS[way](cluster, job, draw)
        done[way] += 1
        wait_for(paths, lambda: goes_on(paths, begun), f"what follows {way}", PATIENCE_S)  # noqa: B023
        from_step = read_attempts(paths)[-1].from_step
        lost.append(max(0, step - (from_step or max(checkpoint_steps(paths.root), default=0))))
        print(f"{sum(done.values())}: {way} at step {step}", flush=True)
    wait_until_finished(paths, PATIENCE_S)
    assert_same_result(paths.root, left_alone.root)
    check_ledger(paths)
    seen = {
        "ends": dict(done),
        "attempts": len(read_attempts(paths)),
        "lost_steps": lost,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(seen, indent=2) + "\n")
    print(json.dumps(seen))
    assert sum(done.values()) == KILLS, "the run was finished too soon"


def await_training(paths: RunPaths) -> None:
    """Waits for the first step of the newest attempt, or the end of the run."""
    number = len(read_attempts(paths))

    def trains() -> bool:
        written = (paths.root / "metrics.jsonl").exists() and lines(paths.root / "metrics.jsonl")
        return paths.finished.exists() or bool(
            written and read_attempts(paths) and written[-1]["attempt"] >= max(number, 1)
        )

    wait_for(paths, trains, "the next steps", PATIENCE_S)


def goes_on(paths: RunPaths, begun: int) -> bool:
    """Whether another attempt has begun, or the run has ended all the same."""
    return len(read_attempts(paths)) > begun or paths.finished.exists()


def check_ledger(paths: RunPaths) -> None:
    """Every step once, in its order, and every attempt from where a checkpoint was."""
    steps = [
        line["step"]
        for line in lines(paths.root / "metrics.jsonl")
        if line["split"] == "train" and not line.get("epoch_end")
    ]
    assert steps == list(range(1, max(steps) + 1)), "a gap or a double"
    for attempt in read_attempts(paths)[1:]:
        assert attempt.outcome is None or (attempt.from_step or 0) >= 0
