"""What ``harness plan`` says of the job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.distribute.asked import replicas_of
from harness.errors import EnvironmentNotAble
from harness.launch.planning import make, source_of
from harness.launch.planning_job import job_json, job_lines
from harness.launch.request import Request, make_request
from harness.launch.submit import dry_run
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


def test_a_value_inside_of_a_mapping_comes_from_where_this_is_written() -> None:
    sources = {"backbone.inputs": "spec job.yaml:3", "backbone.output": "-o"}
    assert source_of("backbone.output", sources) == "-o"
    assert source_of("backbone.inputs.input_mask", sources) == "spec job.yaml:3"
    assert source_of("backbone.signature", sources) == "default"


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
        ({"nodes": 2, "gpus_per_node": 4}, 8),
        ({"nodes": 2, "gpus_per_node": 4, "strategy": "horovod"}, 8),
        ({"nodes": 2, "gpus_per_node": 4, "strategy": "multiworker"}, 8),
        ({"nodes": 2, "ranks_per_node": 2, "device": "cpu", "strategy": "horovod"}, 4),
        ({"nodes": 2, "device": "cpu"}, 2),
    ],
)
def test_replicas_that_a_spec_asks_for(cluster: dict, replicas: int) -> None:
    resolved = load_spec({**SPEC, "cluster": cluster})
    assert replicas_of(resolved.spec.cluster) == replicas
    planned = make(resolved).to_json()
    assert (planned["replicas"], planned["batch_per_replica"]) == (replicas, 32 // replicas)


@pytest.mark.parametrize(
    ("cluster", "ranks", "cores"),
    [
        # A rank for each GPU where a rank computes on one; else one on each node, for all of them.
        ({"nodes": 2, "gpus_per_node": 4, "cpus_per_gpu": 6}, 4, 6),
        ({"nodes": 2, "gpus_per_node": 4, "cpus_per_gpu": 6, "strategy": "horovod"}, 4, 6),
        ({"nodes": 2, "gpus_per_node": 4, "cpus_per_gpu": 6, "strategy": "multiworker"}, 1, 24),
        ({"gpus_per_node": 4, "cpus_per_gpu": 6}, 1, 24),
        ({"nodes": 2, "ranks_per_node": 2, "device": "cpu"}, 2, 4),
    ],
)
def test_ranks_on_each_node(cluster: dict, ranks: int, cores: int) -> None:
    planned = make(load_spec({**SPEC, "cluster": cluster}))
    job = planned.to_json()["job"]
    assert (job["nodes"], job["ranks_per_node"]) == (cluster.get("nodes", 1), ranks)
    assert job["cpus_per_rank"] == cores
    words = f"{ranks} rank{'s' if ranks > 1 else ''} on each"
    assert words in "\n".join(job_lines(make_request(planned.resolved), load_site("generic")))


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"nodes": 2, "strategy": "mirrored"}, "cluster.strategy is mirrored, which is for one"),
        ({"nodes": 2, "strategy": "single"}, "cluster.strategy is single, which is for one"),
        ({"strategy": "multiworker"}, "cluster.strategy is multiworker and there is one rank"),
        ({"nodes": 2, "gpus_per_node": 4, "ranks_per_node": 3}, "cannot share its GPUs evenly"),
        (
            {"nodes": 2, "gpus_per_node": 4, "ranks_per_node": 2, "strategy": "horovod"},
            "a rank of Horovod computes on one GPU",
        ),
    ],
)
def test_ranks_that_cannot_be_are_refused_before_submission(cluster: dict, words: str) -> None:
    with pytest.raises(EnvironmentNotAble, match=words):
        make(load_spec({**SPEC, "cluster": cluster}))
    with pytest.raises(EnvironmentNotAble, match=words):
        dry_run(load_spec({**SPEC, "cluster": cluster}), Path("/runs/r"), None)


def test_replicas_that_cannot_share_the_batch_are_refused() -> None:
    with pytest.raises(EnvironmentNotAble, match="3 replicas cannot share"):
        make(load_spec({**SPEC, "cluster": {"gpus_per_node": 3}}))
