"""The variables that Horovod starts with, and by which controller its ranks meet."""

from __future__ import annotations

import socket
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.distribute.interfaces import interface_of
from harness.distribute.rendezvous import check_own_name, pace, settings
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble

ALWAYS = {"HOROVOD_DISABLE_GROUP_FUSION": "1", "HOROVOD_GLOO_TIMEOUT_SECONDS": "300"}
MEETING = ("10.0.0.1", 4711, "10.255.255.1")


def places(sizes: list[int]) -> list[Topology]:
    """The ranks of nodes with so many each, in blocks."""
    return [
        Topology(
            sum(sizes[:node]) + local, sum(sizes), "srun", local, sizes[node], node, len(sizes)
        )
        for node in range(len(sizes))
        for local in range(sizes[node])
    ]


def test_all_variables_of_a_rank() -> None:
    place = places([2, 2])[3]
    assert settings(place, {}, MEETING, [2, 2]) == {
        **ALWAYS,
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": "10.0.0.1",
        "HOROVOD_GLOO_RENDEZVOUS_PORT": "4711",
        "HOROVOD_RANK": "3",
        "HOROVOD_SIZE": "4",
        "HOROVOD_LOCAL_RANK": "1",
        "HOROVOD_LOCAL_SIZE": "2",
        "HOROVOD_CROSS_RANK": "1",
        "HOROVOD_CROSS_SIZE": "2",
        "HOROVOD_HOSTNAME": "node1",
    }


@pytest.mark.parametrize(
    ("sizes", "cross"),
    [
        ([1], ["0/1"]),
        ([3], ["0/1"] * 3),
        ([2, 2], ["0/2", "0/2", "1/2", "1/2"]),
        ([2, 1], ["0/2", "0/1", "1/2"]),
        ([1, 2], ["0/2", "1/2", "0/1"]),
        ([1, 3, 2], ["0/3", "1/3", "0/2", "0/1", "2/3", "1/2"]),
    ],
)
def test_ranks_across_nodes_that_are_not_equal(sizes: list[int], cross: list[str]) -> None:
    made = [settings(place, {}, MEETING, sizes) for place in places(sizes)]
    assert [f"{one['HOROVOD_CROSS_RANK']}/{one['HOROVOD_CROSS_SIZE']}" for one in made] == cross


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_cross_ranks_number_those_of_one_local_rank(sizes: list[int]) -> None:
    groups = defaultdict(list)
    for place in places(sizes):
        made = settings(place, {}, MEETING, sizes)
        key = (made["HOROVOD_LOCAL_RANK"], int(made["HOROVOD_CROSS_SIZE"]))
        groups[key].append(int(made["HOROVOD_CROSS_RANK"]))
    assert Counter(local for local, _ in groups).most_common(1)[0][1] == 1, "sizes agree"
    for (_, size), numbers in groups.items():
        assert numbers == list(range(size))


def test_a_launcher_that_has_done_all_is_left_alone() -> None:
    assert settings(Topology(1, 2, "mpirun", 1, 2), {}, None) == ALWAYS


@pytest.mark.parametrize("meeting", [None, MEETING])
def test_what_the_user_has_set_stays(meeting: tuple[str, int, str] | None) -> None:
    own = {
        "HOROVOD_GLOO_TIMEOUT_SECONDS": "77",
        "HOROVOD_CPU_OPERATIONS": "mpi",
        "HOROVOD_GLOO_IFACE": "ib0",
    }
    place = places([2])[1]
    made = settings(place, own, meeting, [2])
    assert not set(made) & set(own)
    assert set(made) | set(own) >= set(settings(place, {}, meeting, [2]))


YIELD = {"OMPI_MCA_mpi_yield_when_idle": "1"}


@pytest.mark.parametrize(
    ("own", "gpus", "wakes", "wanted"),
    [
        ({}, False, False, {"HOROVOD_CYCLE_TIME": "5"} | YIELD),
        ({}, False, True, {"HOROVOD_CYCLE_TIME": "1", "HOROVOD_IDLE_TIME": "500"} | YIELD),
        ({}, True, False, {}),
        ({}, True, True, {}),
        ({"HOROVOD_CYCLE_TIME": "1"}, False, False, YIELD),
        ({"HOROVOD_CYCLE_TIME": "1"}, False, True, YIELD),
        (dict.fromkeys(YIELD, "0"), False, False, {"HOROVOD_CYCLE_TIME": "5"}),
    ],
)
def test_ranks_on_cpus_are_not_asked_every_millisecond(
    own: dict[str, str], gpus: bool, wakes: bool, wanted: dict[str, str]
) -> None:
    assert pace(own, gpus=gpus, wakes=wakes) == wanted


def test_the_interface_of_this_ranks_own_address_is_named() -> None:
    made = settings(places([2])[0], {}, ("10.0.0.1", 1, "127.0.0.1"), [2])
    assert made["HOROVOD_GLOO_IFACE"] == interface_of("127.0.0.1") == "lo"


@pytest.mark.parametrize("address", ["10.255.255.1", "", "::1", "no address"])
def test_an_address_of_nobody_here_has_no_interface(address: str) -> None:
    assert interface_of(address) is None


@pytest.mark.parametrize(
    ("source", "environment", "controller"),
    [
        ("srun", {}, "gloo"),
        ("submitit", {}, "gloo"),
        ("TF_CONFIG", {}, "gloo"),
        ("none", {}, "gloo"),
        ("horovodrun", {}, "gloo"),
        ("mpirun", {}, "mpi"),
        ("mpiexec", {}, "mpi"),
        ("srun", {"HOROVOD_CONTROLLER": "mpi"}, "mpi"),
        ("srun", {"HOROVOD_CONTROLLER": "MPI"}, "mpi"),
        ("mpirun", {"HOROVOD_CONTROLLER": "gloo"}, "gloo"),
        ("mpirun", {"HOROVOD_CONTROLLER": ""}, "mpi"),
        ("srun", {"HOROVOD_CONTROLLER": "carrier pigeon"}, "gloo"),
    ],
)
def test_controller(source: str, environment: dict[str, str], controller: str) -> None:
    pytest.importorskip("tensorflow")
    from harness.worker.links import controller_of

    assert controller_of(source, environment) == controller


def test_a_machine_that_does_not_know_its_own_name_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Horovod ends the process there, with no word (seen in a container)."""
    check_own_name()
    monkeypatch.setattr(socket, "gethostname", lambda: "nobody-knows-me.invalid")
    with pytest.raises(EnvironmentNotAble, match=r"nobody-knows-me\.invalid.*/etc/hosts"):
        check_own_name()
