"""Who the ranks of one start are, which of them are missing, and why they cannot go together.

Pure: words and comparisons, no connection.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.distribute.topology import Topology
from harness.errors import Problem

_MOST_NODES = 8
"""Nodes that an error names; more of them say no more."""


@dataclass(frozen=True)
class Member:
    """What is known of one rank.

    ``host`` is what the machine calls itself, ``node`` what the launcher calls it (its number where
    the launcher gives no names).  ``address`` is the IP at which other ranks reach its machine, as
    rank 0 sees it.  ``facts`` is what the rank said of itself.
    """

    rank: int
    host: str
    node: str
    pid: int
    address: str
    facts: Mapping[str, Any]
    local_rank: int = 0
    local_size: int = 1
    node_number: int = 0

    @property
    def name(self) -> str:
        """``rank 3 (node n2, host h, pid 123)``."""
        host = "" if self.host == self.node else f", host {self.host}"
        return f"rank {self.rank} (node {self.node}{host}, pid {self.pid})"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "facts": dict(self.facts)}

    @classmethod
    def of(cls, topology: Topology, host: str, pid: int, facts: Mapping[str, Any]) -> Member:
        """This process, before anybody has seen its address."""
        node = node_name(topology, topology.node)
        return cls(
            topology.rank,
            host,
            node,
            pid,
            "",
            facts,
            topology.local_rank,
            topology.local_size,
            topology.node,
        )


@dataclass(frozen=True)
class Lost:
    """Why the ranks cannot go on: the one that ended first.

    ``message`` and ``exit_code`` are what the rank itself said of its error; both are None where it
    ended without a word, and ``how`` says how that was noticed.  ``also`` names ranks that ended at
    about the same time.
    """

    rank: int
    name: str
    message: str | None = None
    exit_code: int | None = None
    how: str = ""
    also: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        text = f"{self.name} "
        if self.message is None:
            text += f"ended without a word ({self.how})" if self.how else "ended without a word"
        else:
            text += f"failed: {self.message}"
        if self.also:
            more = len(self.also) - _MOST_NODES
            text += f"; with it {', '.join(self.also[:_MOST_NODES])}"
            text += f" and {more} more" if more > 0 else ""
        return text

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "also": list(self.also)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Lost:
        return cls(**{**data, "also": tuple(data["also"])})


def node_name(topology: Topology, number: int) -> str:
    """Name of a node, its number where the launcher names none."""
    return topology.hosts[number] if number < len(topology.hosts) else str(number)


def ranks(numbers: Iterable[int]) -> str:
    """Ranks in words, each once: ``rank 3``, ``ranks 3, 5-7``."""
    ordered = sorted(set(numbers))
    spans: list[list[int]] = []
    for number in ordered:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    words = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
    return f"rank{'' if len(ordered) == 1 else 's'} {words}"


def missing(topology: Topology, came: Sequence[Member]) -> str:
    """The ranks that have not come, and where they belong as far as that is known.

    Which rank belongs to which node is the launcher's matter (in blocks, in turn, ...) and is not
    guessed: ``TF_CONFIG`` tells each one's address; otherwise the nodes are told that have fewer
    ranks than they should.
    """
    absent = sorted(set(range(topology.size)) - {member.rank for member in came})
    words = ranks(absent)
    if topology.workers:
        where = [topology.workers[rank] for rank in absent]
    elif topology.nodes > 1:
        where = _short_nodes(topology, came)
    else:
        where = []
    more = f" and {len(where) - _MOST_NODES} more" if len(where) > _MOST_NODES else ""
    return f"{words} ({', '.join(where[:_MOST_NODES])}{more})" if where else words


def _short_nodes(topology: Topology, came: Sequence[Member]) -> list[str]:
    """Nodes from which ranks are missing; a node's own ranks know how many it has."""
    here = Counter(member.node_number for member in came)
    due = {member.node_number: member.local_size for member in came}
    names = {number: node_name(topology, number) for number in range(topology.nodes)}
    return [
        f"{here[number]} of {due[number]} came from node {name}"
        if number in due
        else f"none came from node {name}"
        for number, name in names.items()
        if number not in due or here[number] < due[number]
    ]


def disagreements(members: Sequence[Member], same: Collection[str]) -> list[Problem]:
    """A problem for each fact of ``same`` that is not the same on all ranks."""
    problems = []
    for fact in sorted(same):
        holders: dict[str, list[Member]] = {}
        for member in members:
            value = member.facts.get(fact)
            text = "nothing" if value is None else json.dumps(value, sort_keys=True)
            holders.setdefault(text, []).append(member)
        if len(holders) > 1:
            common = sorted(holders.items(), key=lambda item: (-len(item[1]), item[1][0].rank))
            problems.append(
                Problem(
                    f"the ranks do not have the same {fact.replace('_', ' ')}",
                    got="; ".join(f"{text} on {_holders(some)}" for text, some in common),
                    allowed="the same on all ranks",
                    action="start all ranks with the same software, spec and run directory",
                )
            )
    return problems


def _holders(members: Sequence[Member]) -> str:
    nodes = list(dict.fromkeys(member.node for member in members))
    more = f" and {len(nodes) - _MOST_NODES} more" if len(nodes) > _MOST_NODES else ""
    return (
        f"{ranks(member.rank for member in members)} "
        f"(node{'' if len(nodes) == 1 else 's'} {', '.join(nodes[:_MOST_NODES])}{more})"
    )


def with_addresses(members: Sequence[Member], reached: Collection[str]) -> tuple[Member, ...]:
    """The members in their order, with rank 0's own address filled in.

    Rank 0 cannot tell at which of its addresses others reach it; they can.

    Args:
        reached: the addresses at which they did.  Ranks on rank 0's own machine may have come over
            loopback, which is of no use to those on other nodes, so they get rank 0's too.
    """
    outside = Counter(address for address in reached if not is_loopback(address))
    first = outside.most_common(1)[0][0] if outside else "127.0.0.1"
    ordered = sorted(members, key=lambda member: member.rank)
    return tuple(
        Member(**{**member.__dict__, "address": first})
        if not member.address or is_loopback(member.address)
        else member
        for member in ordered
    )


def is_loopback(address: str) -> bool:
    """Whether an address means the machine that uses it."""
    return address == "::1" or address.startswith("127.")
