"""From strategy, ranks and devices to a distribution, and every combination that is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from harness.distribute.asked import check_asked, check_started, ranks_per_node, replicas_of
from harness.distribute.strategy import (
    MULTI_RANK,
    HorovodState,
    check_meeting,
    check_replicas_per_rank,
    pick,
)
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble, ExitCode
from harness.spec.models_cluster import Cluster

HERE = HorovodState(None, "build it")
NOT_HERE = HorovodState("Horovod is not installed", "run: make horovod")
ONE = Topology()
TWO = Topology(1, 2, "srun", 1, 2)
TWO_NODES = Topology(1, 2, "srun", 0, 1, 1, 2, ("n1", "n2"))
STRATEGIES = ("auto", "single", "mirrored", "multiworker", "horovod")


@pytest.mark.parametrize(
    ("strategy", "topology", "horovod", "devices", "name"),
    [
        ("auto", ONE, NOT_HERE, 1, "single"),
        ("auto", ONE, HERE, 1, "single"),
        ("auto", ONE, NOT_HERE, 4, "mirrored"),
        ("single", ONE, NOT_HERE, 1, "single"),
        ("mirrored", ONE, NOT_HERE, 2, "mirrored"),
        ("horovod", ONE, HERE, 1, "horovod"),
        ("auto", TWO, HERE, 1, "horovod"),
        ("auto", TWO_NODES, HERE, 1, "horovod"),
        ("auto", TWO, NOT_HERE, 1, "multiworker"),
        ("auto", TWO_NODES, NOT_HERE, 4, "multiworker"),
        ("horovod", TWO, HERE, 1, "horovod"),
        ("multiworker", TWO, HERE, 1, "multiworker"),
        ("multiworker", TWO_NODES, NOT_HERE, 2, "multiworker"),
    ],
)
def test_pick(
    strategy: str, topology: Topology, horovod: HorovodState, devices: int, name: str
) -> None:
    picked = pick(strategy, topology, horovod, devices)
    assert picked.name == name
    assert bool(picked.why) == (name in MULTI_RANK)


@pytest.mark.parametrize(
    ("strategy", "topology", "horovod", "said"),
    [
        ("auto", TWO, HERE, "2 ranks by srun, Horovod is installed"),
        ("horovod", TWO, HERE, "2 ranks by srun, asked for"),
        ("horovod", ONE, HERE, "one process, asked for"),
        ("multiworker", TWO, HERE, "2 ranks by srun, asked for"),
        ("auto", TWO, NOT_HERE, "2 ranks by srun, Horovod is not installed (run: make horovod)"),
    ],
)
def test_it_says_why(strategy: str, topology: Topology, horovod: HorovodState, said: str) -> None:
    assert pick(strategy, topology, horovod, 1).why == said


@pytest.mark.parametrize(
    ("strategy", "topology", "horovod", "says"),
    [
        ("multiworker", ONE, HERE, ["there is one rank", "cluster.ranks_per_node"]),
        ("mirrored", TWO, HERE, ["mirrored", "for one process", "2 ranks by srun"]),
        ("mirrored", TWO_NODES, NOT_HERE, ["horovod, multiworker or auto"]),
        ("single", TWO, HERE, ["single", "for one process", "cluster.strategy: auto"]),
        ("horovod", TWO, NOT_HERE, ["Horovod is not installed", "make horovod"]),
        ("horovod", ONE, NOT_HERE, ["Horovod is not installed", "make horovod"]),
        (
            "horovod",
            TWO,
            HorovodState("Horovod was built with gloo, and its ranks are to meet by mpi", "again"),
            ["built with gloo", "by mpi", "again"],
        ),
    ],
)
def test_what_pick_refuses(
    strategy: str, topology: Topology, horovod: HorovodState, says: list[str]
) -> None:
    with pytest.raises(EnvironmentNotAble) as raised:
        pick(strategy, topology, horovod, 1)
    assert raised.value.exit_code == ExitCode.ENVIRONMENT == 3
    assert all(word in str(raised.value) for word in says), str(raised.value)


@pytest.mark.parametrize("topology", [ONE, TWO, TWO_NODES])
@pytest.mark.parametrize("horovod", [HERE, NOT_HERE])
def test_every_strategy_is_what_was_asked_for_or_an_error(
    topology: Topology, horovod: HorovodState
) -> None:
    for strategy, devices in itertools.product(STRATEGIES, (1, 2)):
        try:
            name = pick(strategy, topology, horovod, devices).name
        except EnvironmentNotAble:
            assert strategy != "auto", "auto finds something for every topology"
            continue
        assert (name in MULTI_RANK) == (topology.size > 1) or strategy == "horovod"
        if strategy in MULTI_RANK:
            assert name == strategy


@pytest.mark.parametrize(
    ("name", "kind", "wanted", "fits"),
    [
        *((name, kind, wanted, True) for name in MULTI_RANK for kind in ("CPU", "GPU")
          for wanted in (None, 1)),
        ("multiworker", "GPU", 4, True),
        ("multiworker", "CPU", 2, False),
        ("horovod", "GPU", 2, False),
        ("horovod", "CPU", 2, False),
    ],
)  # fmt: skip
def test_replicas_per_rank(name: str, kind: str, wanted: int | None, fits: bool) -> None:
    if fits:
        check_replicas_per_rank(name, kind, wanted)
        return
    with pytest.raises(EnvironmentNotAble, match=rf"replicas_per_rank: {wanted}.*ranks_per_node"):
        check_replicas_per_rank(name, kind, wanted)


@pytest.mark.parametrize(
    ("name", "source", "nodes", "fits"),
    [
        ("multiworker", "srun", 2, True),
        ("multiworker", "TF_CONFIG", 2, True),
        ("multiworker", "submitit", 1, True),
        ("multiworker", "mpirun", 1, True),
        ("multiworker", "mpirun", 2, False),
        ("multiworker", "horovodrun", 2, False),
        ("multiworker", "mpiexec", 2, False),
        ("horovod", "mpirun", 2, True),
        ("horovod", "horovodrun", 2, True),
    ],
)
def test_multiworker_must_know_the_nodes(name: str, source: str, nodes: int, fits: bool) -> None:
    place = Topology(1, 2, source, 0 if nodes == 2 else 1, 3 - nodes, nodes - 1, nodes)
    if fits:
        check_meeting(name, place)
        return
    with pytest.raises(EnvironmentNotAble, match=rf"2 nodes by {source}.*srun"):
        check_meeting(name, place)


@pytest.mark.parametrize(
    ("cluster", "ranks", "replicas"),
    [
        ({}, 1, 1),
        ({"gpus_per_node": 0}, 1, 1),
        ({"gpus_per_node": 4}, 1, 4),
        ({"gpus_per_node": 4, "strategy": "single"}, 1, 1),
        ({"gpus_per_node": 4, "strategy": "mirrored"}, 1, 4),
        ({"replicas_per_rank": 2, "strategy": "mirrored"}, 1, 2),
        ({"gpus_per_node": 4, "strategy": "horovod"}, 4, 4),
        ({"gpus_per_node": 4, "strategy": "horovod", "nodes": 2}, 4, 8),
        ({"strategy": "horovod", "nodes": 2}, 1, 2),
        ({"strategy": "horovod", "ranks_per_node": 2}, 2, 2),
        ({"nodes": 2}, 1, 2),
        ({"nodes": 2, "gpus_per_node": 0}, 1, 2),
        ({"nodes": 2, "gpus_per_node": 4}, 4, 8),
        ({"nodes": 2, "gpus_per_node": 4, "strategy": "multiworker"}, 1, 8),
        ({"nodes": 2, "gpus_per_node": 4, "ranks_per_node": 2}, 2, 8),
        ({"nodes": 2, "strategy": "multiworker"}, 1, 2),
        ({"nodes": 256, "gpus_per_node": 4}, 4, 1024),
    ],
)
def test_ranks_and_replicas_of_a_spec(cluster: dict[str, Any], ranks: int, replicas: int) -> None:
    asked = Cluster(**cluster)
    check_asked(asked)
    assert (ranks_per_node(asked), replicas_of(asked)) == (ranks, replicas)


@pytest.mark.parametrize(
    ("cluster", "says"),
    [
        ({"strategy": "mirrored", "nodes": 2}, ["for one process", "2 nodes with 1 ranks each"]),
        ({"strategy": "single", "nodes": 2}, ["for one process", "cluster.strategy: auto"]),
        ({"strategy": "mirrored", "ranks_per_node": 2}, ["1 nodes with 2 ranks each"]),
        ({"strategy": "multiworker"}, ["there is one rank", "two ranks or more"]),
        ({"strategy": "multiworker", "gpus_per_node": 4}, ["there is one rank"]),
        ({"ranks_per_node": 4, "gpus_per_node": 2}, ["two ranks must not use one", "4 ranks and"]),
        ({"ranks_per_node": 3, "gpus_per_node": 4, "nodes": 2}, ["evenly", "cluster.ranks_per"]),
        (
            {"strategy": "horovod", "ranks_per_node": 2, "gpus_per_node": 4},
            ["computes on one GPU", "cluster.ranks_per_node: 4", "multiworker"],
        ),
    ],
)
def test_what_a_spec_cannot_ask_for(cluster: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(EnvironmentNotAble) as raised:
        check_asked(Cluster(**cluster))
    assert raised.value.exit_code == 3
    assert all(word in str(raised.value) for word in says), str(raised.value)
    assert (raised.value.problems[0].path or "").startswith("cluster.")


@pytest.mark.parametrize(
    ("cluster", "topology", "fits"),
    [
        ({}, ONE, True),
        ({}, TWO, True),  # the spec names no number: it takes what there is
        ({"gpus_per_node": 4, "strategy": "horovod"}, TWO, True),
        ({"ranks_per_node": 2}, TWO, True),
        ({"nodes": 2}, TWO_NODES, True),
        ({"nodes": 2, "ranks_per_node": 1}, TWO, True),
        ({"ranks_per_node": 2}, ONE, False),
        ({"nodes": 2}, ONE, False),
        ({"nodes": 2, "gpus_per_node": 4}, TWO_NODES, False),
        ({"ranks_per_node": 1}, TWO, False),
    ],
)
def test_as_many_ranks_as_asked_for(
    cluster: dict[str, Any], topology: Topology, fits: bool
) -> None:
    asked = Cluster(**cluster)
    if fits:
        check_started(asked, topology)
        return
    with pytest.raises(EnvironmentNotAble, match="not as many ranks were started") as raised:
        check_started(asked, topology)
    problem = raised.value.problems[0]
    assert problem.got == (f"{topology.size} by srun" if topology.size > 1 else "1")
    wanted = asked.nodes * ranks_per_node(asked)
    assert (problem.allowed or "").startswith(f"{wanted} (cluster.nodes: {asked.nodes}, ")
