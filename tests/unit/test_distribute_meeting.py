"""Keys, addresses, ports and words of a meeting, by tables; sockets as the system has them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.distribute.meeting import (
    ADDRESS,
    meeting_addresses,
    meeting_ports,
)
from harness.distribute.members import Lost, Member, disagreements, missing, ranks, with_addresses
from harness.distribute.topology import Topology
from tests.unit.meeting_helpers import place


def member(rank: int, node: int = 0, **changes: Any) -> Member:
    given = {"rank": rank, "host": f"h{node}", "node": f"n{node}", "pid": 100 + rank}
    given |= {"address": f"10.0.0.{node + 1}", "facts": {}, "node_number": node, "local_size": 2}
    return Member(**{**given, **changes})


HNP = "803012608.0;tcp://10.0.0.2,192.168.0.2:56765;tcp6://[fd00::2]:50017"


@pytest.mark.parametrize(
    ("topology", "environment", "addresses"),
    [
        (Topology(), {}, ["127.0.0.1"]),
        # one node: loopback, whatever else there is
        (
            place(nodes=1, hosts=("n1",), node=0, local_size=4),
            {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.9", ADDRESS: "10.0.0.8"},
            ["127.0.0.1"],
        ),
        (place(3), {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.9"}, ["n1", "10.0.0.9"]),
        (place(1), {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.9"}, ["127.0.0.1", "n1", "10.0.0.9"]),
        (place(3), {"SLURM_LAUNCH_NODE_IPADDR": "n1"}, ["n1"]),
        (place(3), {ADDRESS: "gate"}, ["gate", "n1"]),
        (
            place(3, source="TF_CONFIG", hosts=("a", "b"), workers=("a:1", "a:2", "b:1", "b:2")),
            {},
            ["a"],
        ),
        (
            place(3, source="TF_CONFIG", hosts=(), workers=("[fd00::1]:1", "b:1")),
            {},
            ["fd00::1"],
        ),
        (
            place(3, source="mpirun", hosts=()),
            {"OMPI_MCA_orte_hnp_uri": HNP},
            ["10.0.0.2", "192.168.0.2"],
        ),
        (
            place(3, source="horovodrun", hosts=()),
            {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "10.0.0.5"},
            ["10.0.0.5"],
        ),
        # horovodrun counts the nodes that have a rank of this number, not all nodes
        (
            place(3, source="horovodrun", hosts=(), nodes=1, node=0, local_size=3),
            {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "10.0.0.5"},
            ["127.0.0.1", "10.0.0.5"],
        ),
    ],
)
def test_where_rank_0_is_looked_for(
    topology: Topology, environment: dict[str, str], addresses: list[str]
) -> None:
    assert meeting_addresses(topology, environment) == addresses


@given(st.text())
def test_ports_follow_from_the_key_and_are_outside_of_the_usual_ranges(key: str) -> None:
    ports = meeting_ports(key)
    assert ports == meeting_ports(key)
    assert len(set(ports)) == 16
    assert all(20_000 <= port < 32_000 for port in ports)


def test_two_keys_begin_elsewhere() -> None:
    firsts = {meeting_ports(str(number))[0] for number in range(100)}
    assert len(firsts) > 90


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([3], "rank 3"),
        ([7, 3, 5, 6], "ranks 3, 5-7"),
        ([0, 1], "ranks 0-1"),
        ([1, 1], "rank 1"),
        (range(1, 1024), "ranks 1-1023"),
    ],
)
def test_ranks_in_words(numbers: list[int], words: str) -> None:
    assert ranks(numbers) == words


@given(st.sets(st.integers(0, 50), min_size=1))
def test_words_hold_every_rank_once(numbers: set[int]) -> None:
    found: list[int] = []
    for span in ranks(numbers).split(" ", 1)[1].split(", "):
        first, _, last = span.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == sorted(numbers)


@pytest.mark.parametrize(
    ("topology", "came", "words"),
    [
        (Topology(0, 3, "submitit", 0, 3), [member(0)], "ranks 1-2"),
        (place(), [member(0), member(1), member(2, 1)], "rank 3 (1 of 2 came from node n2)"),
        (place(), [member(0), member(1)], "ranks 2-3 (none came from node n2)"),
        # in turn over the nodes: it is not guessed who belongs where
        (place(), [member(0), member(2)], "ranks 1, 3 (none came from node n2)"),
        (
            place(size=5),
            [member(0), member(3, 1, local_size=3)],
            "ranks 1-2, 4 (1 of 2 came from node n1, 1 of 3 came from node n2)",
        ),
        (place(hosts=()), [member(0), member(1)], "ranks 2-3 (none came from node 1)"),
        (
            place(source="TF_CONFIG", workers=("a:1", "a:2", "b:1", "b:2")),
            [member(0), member(2, 1)],
            "ranks 1, 3 (a:2, b:2)",
        ),
        (
            place(size=40, nodes=20, hosts=tuple(f"m{number}" for number in range(20))),
            [member(0)],
            "ranks 1-39 (1 of 2 came from node m0, "
            + ", ".join(f"none came from node m{number}" for number in range(1, 8))
            + " and 12 more)",
        ),
    ],
)
def test_who_is_missing_and_from_where(topology: Topology, came: list[Member], words: str) -> None:
    assert missing(topology, came) == words


def test_a_difference_names_ranks_values_and_what_to_do() -> None:
    facts = [{"tensorflow": "2.21", "spec": "a"}] * 3 + [{"tensorflow": "2.20", "spec": "a"}, {}]
    members = [member(rank, rank // 3, facts=facts[rank]) for rank in range(5)]
    spec, tensorflow = disagreements(members, ["tensorflow", "spec"])
    assert spec.got == '"a" on ranks 0-3 (nodes n0, n1); nothing on rank 4 (node n1)'
    assert tensorflow.what == "the ranks do not have the same tensorflow"
    assert tensorflow.got == (
        '"2.21" on ranks 0-2 (node n0); "2.20" on rank 3 (node n1); nothing on rank 4 (node n1)'
    )
    assert tensorflow.allowed == "the same on all ranks"
    assert tensorflow.action


def test_other_facts_may_differ() -> None:
    members = [member(rank, facts={"port": rank, "spec": {"b": 1, "a": 2}}) for rank in range(3)]
    assert disagreements(members, ["spec"]) == []


@pytest.mark.parametrize(
    ("seen", "reached", "addresses"),
    [
        (["", "127.0.0.1"], ["127.0.0.1"], ["127.0.0.1", "127.0.0.1"]),
        # rank 1 is on rank 0's machine, rank 2 tells how that is reached
        (
            ["", "127.0.0.1", "10.0.0.2"],
            ["127.0.0.1", "10.0.0.1"],
            ["10.0.0.1", "10.0.0.1", "10.0.0.2"],
        ),
        # most of them know rank 0 by this one
        (
            ["", "10.0.0.2", "10.0.0.3", "10.0.0.4"],
            ["10.0.0.1", "fd00::1", "10.0.0.1"],
            ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"],
        ),
    ],
)
def test_addresses_are_those_that_other_nodes_can_use(
    seen: list[str], reached: list[str], addresses: list[str]
) -> None:
    members = [member(rank, address=address) for rank, address in enumerate(seen)]
    got = [one.address for one in with_addresses(members[::-1], reached)]
    assert got == addresses


def test_a_member_says_where_it_is() -> None:
    assert member(3, 2).name == "rank 3 (node n2, host h2, pid 103)"
    assert member(3, 2, host="n2").name == "rank 3 (node n2, pid 103)"
    assert Member(**member(3).to_json()) == member(3)


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (Lost(3, "rank 3"), "rank 3 ended without a word"),
        (Lost(3, "rank 3", how="reset"), "rank 3 ended without a word (reset)"),
        (Lost(3, "rank 3", "no loss", 1, "said"), "rank 3 failed: no loss"),
        (Lost(3, "r", "x", 1, "", ("a", "b")), "r failed: x; with it a, b"),
        (
            Lost(3, "r", "x", 1, "", tuple("abcdefghij")),
            "r failed: x; with it a, b, c, d, e, f, g, h and 2 more",
        ),
    ],
)
def test_a_loss_in_words(lost: Lost, words: str) -> None:
    assert str(lost) == words
    assert Lost.from_json(lost.to_json()) == lost
