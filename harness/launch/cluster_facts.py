"""What SLURM says of itself: its settings, partitions and nodes, as ``scontrol`` prints them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.spec.models_cluster import seconds_of

_WORD = re.compile(r"(?:^|\s)([A-Za-z][A-Za-z0-9_/:]*)=")
_CLOCK = re.compile(r"(\d+-)?\d+:\d\d:\d\d")
_NOTHING = ("", "(null)", "N/A", "NONE")
_MAGNITUDE = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# Base states and flags in which a node takes no job and only its operators change that;
# POWERED_DOWN is not one of them, such a node is started when a job wants it.
_OUT_OF_SERVICE = frozenset(
    {"DOWN", "DRAIN", "DRAINED", "DRAINING", "ERROR", "FAIL", "FAILING", "FUTURE", "INVAL"}
    | {"INVALID_REG", "UNKNOWN"}
)


@dataclass(frozen=True)
class Partition:
    """One line of ``scontrol --oneliner show partition``."""

    name: str
    fields: Mapping[str, str]

    @property
    def state(self) -> str:
        """UP, DOWN (jobs wait and do not start), DRAIN or INACTIVE (jobs are refused)."""
        return self.fields.get("State", "UP")

    @property
    def is_default(self) -> bool:
        """Whether jobs that name no partition come here."""
        return self.fields.get("Default") == "YES"

    @property
    def is_hidden(self) -> bool:
        """Whether it is shown only to those who ask for all."""
        return self.fields.get("Hidden") == "YES"

    def number(self, name: str) -> int | None:
        """A limit, or None where there is none."""
        text = self.fields.get(name, "")
        return int(text) if text.isdecimal() else None

    def seconds(self, name: str) -> int | None:
        """A time, or None where there is none (UNLIMITED, NONE)."""
        text = self.fields.get(name, "")
        return seconds_of(text) if _CLOCK.fullmatch(text) else None

    def names(self, name: str) -> tuple[str, ...] | None:
        """A list such as ``AllowAccounts``; None where all are meant or it is not there."""
        text = self.fields.get(name, "")
        return None if text in _NOTHING or text.upper() == "ALL" else tuple(text.split(","))


@dataclass(frozen=True)
class Node:
    """One line of ``scontrol --oneliner show node``.  Memory in MB, as SLURM counts it."""

    name: str
    host: str
    state: str
    cpus: int
    memory_mb: int
    gres: tuple[tuple[str, str, int], ...]
    features: frozenset[str]
    partitions: frozenset[str]

    @property
    def in_service(self) -> bool:
        """Whether it takes jobs, now or when it is free."""
        parts = {part.strip("*~#!%$@^-") for part in self.state.split("+")}
        return not parts & _OUT_OF_SERVICE

    def count(self, gres: str, kind: str | None) -> int:
        """How many devices of this name, and of this kind if one is named, it has."""
        return sum(n for name, k, n in self.gres if name == gres and kind in (None, k))


@dataclass(frozen=True)
class Facts:
    """Everything that was read."""

    settings: Mapping[str, str]
    partitions: Mapping[str, Partition]
    nodes: tuple[Node, ...]

    @cached_property
    def default_partition(self) -> Partition | None:
        """Where jobs go that name no partition."""
        return next((part for part in self.partitions.values() if part.is_default), None)

    @property
    def accounting(self) -> bool:
        """Whether there is a database of accounts."""
        return self.settings.get("AccountingStorageType", "").endswith("slurmdbd")

    def enforces(self, what: str) -> bool:
        """Whether ``associations`` or ``qos`` are held against jobs."""
        wanted = self.settings.get("AccountingStorageEnforce", "").lower().split(",")
        return what in wanted or "all" in wanted

    def nodes_of(self, partition: str) -> tuple[Node, ...]:
        """The nodes of a partition."""
        return tuple(node for node in self.nodes if partition in node.partitions)


def read_facts(settings: str, partitions: str, nodes: str) -> Facts:
    """The facts in the output of ``scontrol show config``, ``partition`` and ``node``."""
    found = [words(line) for line in partitions.splitlines()]
    named = {one["PartitionName"]: one for one in found if "PartitionName" in one}
    return Facts(
        read_settings(settings),
        {name: Partition(name, fields) for name, fields in named.items()},
        tuple(
            _node(one) for one in map(words, nodes.splitlines()) if one.get("NodeName", "") != ""
        ),
    )


def read_settings(text: str) -> dict[str, str]:
    """``Name = value`` lines; the first of a name counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign:
            found.setdefault(name.strip(), value.strip())
    return found


def words(line: str) -> dict[str, str]:
    """``Name=value Name=value``, where values may hold spaces; the first of a name counts.

    What people write (a reason, a comment) stands at the end of a line, and so cannot
    pretend to be a field that comes before it.
    """
    found: dict[str, str] = {}
    matches = list(_WORD.finditer(line))
    ends = [one.start() for one in matches[1:]] + [len(line)]
    for one, end in zip(matches, ends, strict=False):
        found.setdefault(one.group(1), line[one.end() : end].strip())
    return found


def _node(fields: Mapping[str, str]) -> Node:
    # Cores that are kept for the system are in CPUTot, not in CPUEfctv, which older ones lack.
    cpus = _whole(fields.get("CPUEfctv")) or _whole(fields.get("CPUTot"))
    memory = _whole(fields.get("RealMemory")) - _whole(fields.get("MemSpecLimit"))
    return Node(
        fields["NodeName"],
        fields.get("NodeHostName", fields["NodeName"]),
        fields.get("State", "UNKNOWN"),
        cpus,
        memory,
        read_gres(fields.get("Gres", "")),
        frozenset(_list(fields.get("AvailableFeatures", ""))),
        frozenset(_list(fields.get("Partitions", ""))),
    )


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _list(text: str) -> list[str]:
    return [] if text in _NOTHING else text.split(",")


def read_gres(text: str) -> tuple[tuple[str, str, int], ...]:
    """(name, kind or "", count) of each part of ``gpu:a100:4(S:0-1),nvme:1``."""
    if text in _NOTHING:
        return ()
    found = []
    for part in re.sub(r"\([^)]*\)", "", text).split(","):
        name, *rest = [piece for piece in part.split(":") if piece != "no_consume"]
        count = 1
        number = re.fullmatch(r"(\d+)([KMGT]?)", rest[-1]) if rest else None
        if number is not None:
            count = int(number[1]) * _MAGNITUDE[number[2]]
            rest = rest[:-1]
        found.append((name, rest[0] if rest else "", count))
    return tuple(found)
