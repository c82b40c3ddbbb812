"""What ``harness plan`` says of the job."""

from __future__ import annotations

import json

import pytest

from harness.errors import UsageError
from harness.launch.planning import make
from harness.launch.planning_job import job_json, job_lines
from harness.launch.request import Request, replicas_of
from harness.spec import load_site, load_spec

SPEC = {
    "harness_spec": 1,
    "name": "textures",
    "backbone": {"handle": "hub:/models/m"},
    "data": {"train": "/data/train"},
    "training": {"batch_size": 32, "phases": [{"name": "head", "epochs": 1}]},
    "checkpoint": {"best": {"metric": "loss"}},
}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, "1 node of the default partition, 1 rank on each"),
        ({"nodes": 2, "partition": "gpu"}, "2 nodes of partition gpu"),
        ({}, "4 CPU cores a rank (default), no GPU, the site's memory"),
        ({"gpus_per_node": 1, "gpu_type": "a100", "mem_gb": 9}, "1 GPU a100 a node, 9 GB a node"),
        ({"gpus_per_node": 2}, "2 GPUs a node"),
        ({}, "the partition's time limit; asked to stop 120 s before its end"),
        ({"time_s": 7200, "time_floor_s": 600}, "2:00:00, or as little as 0:10:00"),
        ({"continue_by": "chain", "max_attempts": 8}, "a chain of 8 jobs"),
        ({"continue_by": "none"}, "by hand only"),
        ({}, "harness submit SPEC --dry-run"),
    ],
)
def test_the_job_in_words(wanted: dict, said: str) -> None:
    lines = "\n".join(job_lines(Request("n", **wanted), load_site("generic")))
    assert said in lines


def test_a_local_job_has_no_queue() -> None:
    (line,) = job_lines(Request("n", time_s=90), load_site("local"))
    assert "on this machine (site local), 0:01:30 at a time" in line


def test_the_job_as_json() -> None:
    facts = job_json(Request("n", more={"comment": "c"}), load_site("generic"))
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["site"], facts["scheduler"]) == ("generic", "slurm")
    assert facts["sbatch"] == {"comment": "c"}
    assert facts["time_s"] is None


@pytest.mark.parametrize(
    ("cluster", "replicas"),
    [
        ({}, 1),
        ({"gpus_per_node": 4}, 4),
        ({"gpus_per_node": 4, "strategy": "single"}, 1),
        ({"gpus_per_node": 4, "replicas_per_rank": 2}, 2),
        ({"device": "cpu", "replicas_per_rank": 2}, 2),
    ],
)
def test_replicas_that_a_spec_asks_for(cluster: dict, replicas: int) -> None:
    resolved = load_spec({**SPEC, "cluster": cluster})
    assert replicas_of(resolved.spec) == replicas
    planned = make(resolved).to_json()
    assert (planned["replicas"], planned["batch_per_replica"]) == (replicas, 32 // replicas)


def test_replicas_that_cannot_share_the_batch_are_refused() -> None:
    with pytest.raises(UsageError, match="3 replicas cannot share"):
        make(load_spec({**SPEC, "cluster": {"gpus_per_node": 3}}))
