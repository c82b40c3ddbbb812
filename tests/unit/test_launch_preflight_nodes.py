"""Whether the partitions and nodes of a cluster could carry a job, and what is too much."""

from __future__ import annotations

import pytest
from preflight_helpers import asked, facts, findings, node, report

from harness.launch.preflight_partition import Fit, check_chain, check_partitions


def test_what_fits() -> None:
    found, own = findings(asked(gpus_per_node=4, gpu_type="a100"), facts(node("g1"), node("g2")))
    assert not found
    assert "2 of the 2 nodes of partition gpu can carry the job" in own.notes


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"gpus_per_node": 5}, ("cluster.gpus_per_node", "up to 4")),
        ({"gpus_per_node": 1, "gpu_type": "h100"}, ("cluster.gpu_type", "a100")),
        ({"gpus_per_node": 1, "gres": "card"}, ("cluster.gpus_per_node", "GRES gpu")),
        ({"cpus_per_rank": 63}, ("cluster.cpus_per_rank", "up to 62")),
        (
            {"cpus_per_rank": 9, "ranks_per_node": 8, "cpus_why": "cluster.cpus_per_gpu"},
            ("cluster.cpus_per_gpu", "up to 62"),
        ),
        ({"mem_gb": 245}, ("cluster.mem_gb", "up to 244 GB")),
        ({"cpus_per_rank": 62, "mem_gb": None, "more": {}}, None),
        ({"nodes": 3}, ("cluster.nodes", "up to 2")),
        ({"time_s": 3 * 86_400}, ("cluster.time", "up to 2-00:00:00")),
    ],
)
def test_the_one_thing_that_is_too_much(
    changes: dict[str, object], wanted: tuple[str, str] | None
) -> None:
    found, _ = findings(asked(**changes), facts(node("g1"), node("g2")))
    assert found == ([] if wanted is None else [wanted])


def test_memory_that_nobody_asked_for_is_the_clusters_default() -> None:
    found, own = findings(asked(mem_gb=None, cpus_per_rank=62), facts(node("g1", memory=200_000)))
    assert found == [("cluster.mem_gb", "up to 195 GB")]
    assert "the default of the cluster" in own.wrong[0].what
    found, _ = findings(
        asked(mem_gb=None, cpus_per_rank=62, more={"exclusive": True}),
        facts(node("g1", memory=200_000)),
    )
    assert not found


def test_things_that_are_too_much_only_together() -> None:
    of = facts(node("fat", memory=2_000_000, gres="(null)"), node("gpu"))
    found, own = findings(asked(gpus_per_node=2, mem_gb=1000), of)
    assert found == [
        ("cluster.mem_gb", "up to 244 GB with the rest as it is"),
        ("cluster.gpus_per_node", "up to 0 with the rest as it is"),
    ]
    assert "beside the rest" in own.wrong[0].what
    # Where each pair fails already, no single number would help.
    of = facts(
        node("a", memory=1_000_000, gres="(null)", cpus=4),
        node("b", memory=1000, gres="gpu:1", cpus=4),
        node("c", memory=1000, gres="(null)", cpus=64),
    )
    found, own = findings(asked(gpus_per_node=1, mem_gb=100, cpus_per_rank=8), of)
    assert found == [("cluster", None)]
    assert own.wrong[0].got == "8 CPU cores, 100 GB memory, 1 GPUs (gpu)"


def test_enough_nodes_of_which_too_few_fit_or_serve() -> None:
    of = facts(node("g1"), node("g2", gres="gpu:v100:4"), node("g3", state="DOWN*"))
    found, _ = findings(asked(nodes=3, gpus_per_node=1, gpu_type="a100"), of)
    assert found == [("cluster.nodes", "up to 2")]
    own = report()
    _, fit = check_partitions(own, asked(nodes=2, gpus_per_node=1, gpu_type="a100"), of)
    assert fit == Fit(True, waits=True)
    assert not own.wrong
    assert any("the job will wait" in note for note in own.notes)


def test_limits_of_a_partition() -> None:
    found, own = findings(asked(nodes=2), facts(node("g1"), node("g2"), most="1"))
    assert found == [("cluster.nodes", "up to 1")]
    assert "lets a job have 1 nodes" in own.wrong[0].what


@pytest.mark.parametrize(
    ("constraint", "nodes", "wanted"),
    [
        ("ib", 1, None),
        ("ib&avx", 1, None),
        ("ib,avx", 1, None),
        ("ib|knl", 2, None),
        ("ib&knl", 1, ("cluster.constraint", "avx, ib, knl")),
        ("ib&fast", 1, ("cluster.constraint", "avx, ib, knl")),
        ("knl", 2, ("cluster.nodes", "up to 1")),
        ("[ib*1&knl*1]", 2, None),
        ("(ib|knl)&avx", 1, None),
    ],
)
def test_constraints(constraint: str, nodes: int, wanted: tuple[str, str] | None) -> None:
    of = facts(node("g1", features="ib,avx"), node("g2", features="knl"))
    found, _ = findings(asked(constraint=constraint, nodes=nodes), of)
    assert found == ([] if wanted is None else [wanted])


def test_of_several_partitions_one_is_enough() -> None:
    of = facts(node("g1", partitions="long"), node("g2", gres="(null)"))
    found, own = findings(asked(partition="gpu,long", gpus_per_node=1), of)
    assert not found
    assert any(note.startswith("not in partition gpu: ") for note in own.notes)
    found, _ = findings(asked(partition="gpu,lnog", gpus_per_node=1), of)
    assert ("cluster.partition", "gpu, long") in found


def test_preemption_is_told_with_what_it_costs() -> None:
    def note(mode: str, *nodes: str) -> str:
        _, own = findings(asked(), facts(*nodes, mode=mode))
        return "\n".join(text for text in own.notes if "preempted" in text)

    told = note("CANCEL", node("g1"))
    assert "by those in long, with no time to save" in told
    assert "does not come back by itself" in told
    assert "come back" not in note("REQUEUE", node("g1"))
    assert note("OFF", node("g1")) == ""
    # One of a higher tier on other nodes takes nothing away.
    assert note("CANCEL", node("g1", partitions="gpu"), node("g2", partitions="long")) == ""


def test_a_chain_is_no_longer_than_arrays_may_be() -> None:
    own = report()
    check_chain(own, asked(continue_by="chain", max_attempts=1001), facts(node("g1")))
    check_chain(own, asked(continue_by="requeue", max_attempts=5000), facts(node("g1")))
    assert not own.wrong
    check_chain(own, asked(continue_by="chain", max_attempts=1002), facts(node("g1")))
    assert own.wrong[0].path == "cluster.max_attempts"
