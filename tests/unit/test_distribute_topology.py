"""Where a process stands, by tables of what launchers set; lists of hosts and counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.distribute.hostlist import expand_counts, expand_hosts
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble

WORKERS = ["n1:5000", "n1:5001", "n2:5000"]


def tf_config(kind: str, index: int, **cluster: list[str]) -> dict[str, str]:
    text = json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})
    return {"TF_CONFIG": text}


# What real launchers set: srun of SLURM 22.05 on two nodes, Open MPI 4.1, horovodrun 0.28.
CASES: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({}, {}),
    # an interactive allocation: a shell, no rank
    ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, {}),
    (
        {
            "SLURM_PROCID": "3",
            "SLURM_STEP_NUM_TASKS": "4",
            "SLURM_LOCALID": "1",
            "SLURM_NODEID": "1",
            "SLURM_STEP_NUM_NODES": "2",
            "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
            "SLURM_STEP_NODELIST": "n[1-2]",
        },
        {
            "rank": 3,
            "size": 4,
            "source": "srun",
            "local_rank": 1,
            "local_size": 2,
            "node": 1,
            "nodes": 2,
            "hosts": ("n1", "n2"),
        },
    ),
    (
        {
            "SLURM_PROCID": "2",
            "SLURM_STEP_NUM_TASKS": "3",
            "SLURM_LOCALID": "0",
            "SLURM_NODEID": "1",
            "SLURM_STEP_TASKS_PER_NODE": "2,1",
        },
        {"rank": 2, "size": 3, "source": "srun", "local_size": 1, "node": 1, "nodes": 2},
    ),
    (
        {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
        {"source": "srun"},
    ),
    (
        {
            "HOROVOD_RANK": "5",
            "HOROVOD_SIZE": "8",
            "HOROVOD_LOCAL_RANK": "1",
            "HOROVOD_LOCAL_SIZE": "4",
            "HOROVOD_CROSS_RANK": "1",
            "HOROVOD_CROSS_SIZE": "2",
            "OMPI_COMM_WORLD_RANK": "0",
            "OMPI_COMM_WORLD_SIZE": "1",
        },
        {
            "rank": 5,
            "size": 8,
            "source": "horovodrun",
            "local_rank": 1,
            "local_size": 4,
            "node": 1,
            "nodes": 2,
        },
    ),
    (
        {
            "OMPI_COMM_WORLD_RANK": "5",
            "OMPI_COMM_WORLD_SIZE": "6",
            "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        },
        {
            "rank": 5,
            "size": 6,
            "source": "mpirun",
            "local_rank": 1,
            "local_size": 2,
            "node": 2,
            "nodes": 3,
        },
    ),
    (
        {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"},
        {"rank": 1, "size": 2, "source": "mpiexec", "local_rank": 1, "local_size": 2},
    ),
    (
        {"SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_NTASKS": "2"},
        {"rank": 1, "size": 2, "source": "submitit", "local_rank": 1, "local_size": 2},
    ),
    (
        tf_config("worker", 2, worker=WORKERS),
        {
            "rank": 2,
            "size": 3,
            "source": "TF_CONFIG",
            "node": 1,
            "nodes": 2,
            "hosts": ("n1", "n2"),
            "workers": tuple(WORKERS),
        },
    ),
    (
        tf_config("worker", 0, chief=["n1:1"], worker=["n1:2"]),
        {
            "rank": 1,
            "size": 2,
            "source": "TF_CONFIG",
            "local_rank": 1,
            "local_size": 2,
            "hosts": ("n1",),
            "workers": ("n1:1", "n1:2"),
        },
    ),
    ({"TF_CONFIG": "{}"}, {}),
]


@pytest.mark.parametrize(("environment", "wanted"), CASES)
def test_a_launchers_variables(environment: dict[str, str], wanted: dict[str, Any]) -> None:
    assert Topology.from_environment(environment) == Topology(**wanted)


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_PROCID": "4", "SLURM_STEP_NUM_TASKS": "4"},
        {"SLURM_PROCID": "x", "SLURM_STEP_NUM_TASKS": "4"},
        {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "2"},
        {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NODELIST": "n["},
        {"HOROVOD_RANK": "0", "HOROVOD_SIZE": "2", "HOROVOD_LOCAL_RANK": "3"},
        {"OMPI_COMM_WORLD_RANK": "-1", "OMPI_COMM_WORLD_SIZE": "2"},
        {"TF_CONFIG": "nonsense"},
        {"TF_CONFIG": "[]"},
        tf_config("worker", 3, worker=WORKERS),
        tf_config("ps", 0, worker=WORKERS),
    ],
)
def test_nonsense_is_an_error_with_a_way_out(environment: dict[str, str]) -> None:
    with pytest.raises(EnvironmentNotAble, match="do not say where this process stands"):
        Topology.from_environment(environment)


@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=40),
    st.data(),
)
def test_every_rank_of_a_step_has_its_place(counts: list[int], data: st.DataObject) -> None:
    node = data.draw(st.integers(0, len(counts) - 1))
    local = data.draw(st.integers(0, counts[node] - 1))
    rank, size = sum(counts[:node]) + local, sum(counts)
    found = Topology.from_environment(
        {
            "SLURM_PROCID": str(rank),
            "SLURM_STEP_NUM_TASKS": str(size),
            "SLURM_LOCALID": str(local),
            "SLURM_NODEID": str(node),
            "SLURM_STEP_TASKS_PER_NODE": ",".join(map(str, counts)),
        }
    )
    place = (found.rank, found.size, found.local_rank, found.local_size, found.node, found.nodes)
    assert place == (rank, size, local, counts[node], node, len(counts))
    assert found.is_first is (rank == 0)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("a1,b[2,4-5],c", ["a1", "b2", "b4", "b5", "c"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("gpu-a100-[001-002].site", ["gpu-a100-001.site", "gpu-a100-002.site"]),
    ],
)
def test_lists_of_hosts(text: str, hosts: list[str]) -> None:
    assert expand_hosts(text) == hosts


@pytest.mark.parametrize(
    "text", ["", "n[", "n]", "n[1-", "n[2-1]", "n[a-b]", "a,,b", "n[[1]]", "n[1-99999999]"]
)
def test_what_is_no_list_of_hosts(text: str) -> None:
    with pytest.raises(ValueError):
        expand_hosts(text)


@pytest.mark.parametrize(("text", "counts"), [("4", [4]), ("2(x3),1", [2, 2, 2, 1])])
def test_lists_of_counts(text: str, counts: list[int]) -> None:
    assert expand_counts(text) == counts


@pytest.mark.parametrize("text", ["", "x", "2(3)", "2(x", "1,,1", "1(x9999999999)"])
def test_what_is_no_list_of_counts(text: str) -> None:
    with pytest.raises(ValueError):
        expand_counts(text)


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 20)), min_size=1, max_size=20))
def test_counts_read_back(runs: list[tuple[int, int]]) -> None:
    text = ",".join(f"{count}(x{times})" for count, times in runs)
    assert expand_counts(text) == [count for count, times in runs for _ in range(times)]
