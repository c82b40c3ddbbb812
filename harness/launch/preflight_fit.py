"""Whether a partition has nodes that could ever carry a job, and if not, what it is that fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.launch.cluster_facts import Facts, Node, Partition
from harness.launch.preflight_report import Report
from harness.launch.request import Request
from harness.spec.base import show

_MB_PER_GB = 1024


@dataclass(frozen=True)
class Need:
    """One thing that each node of a job must have: ``wanted`` of what ``has`` counts.

    ``path`` is the field that asks for it; ``scale`` and ``unit`` turn the count into words.
    """

    path: str
    noun: str
    wanted: int
    has: Callable[[Node], int]
    unit: str = ""
    scale: int = 1
    why: str = ""

    def met(self, node: Node) -> bool:
        """Whether the node has enough."""
        return self.has(node) >= self.wanted

    def words(self, count: int, up: bool = False) -> str:
        """A count with its unit, rounded down, or up."""
        number = -(-count // self.scale) if up else count // self.scale
        return f"{number}{self.unit}"


def check_nodes(report: Report, request: Request, facts: Facts, part: Partition) -> bool:
    """Adds what the nodes of a partition cannot do; says whether enough fit but too few of
    them are in service."""
    nodes = facts.nodes_of(part.name)
    _check_counts(report, request, part, len(nodes))
    needs = _needs(request, facts, part)
    able = [node for node in nodes if all(need.met(node) for need in needs)]
    if nodes and not able:
        _explain(report, needs, nodes, part, request)
    able = _with_features(report, request, facts, part, able)
    if not able or report.names("cluster.nodes", "cluster.constraint"):
        return False
    if len(able) < request.nodes:
        report.add(
            "cluster.nodes",
            f"partition {part.name} has fewer nodes that can carry this job",
            str(request.nodes),
            f"up to {len(able)}",
            "ask for fewer nodes, or for less on each of them",
        )
        return False
    ready = sum(node.in_service for node in able)
    text = f"{len(able)} of the {len(nodes)} nodes of partition {part.name} can carry the job"
    report.note(text if ready == len(able) else f"{text}, {ready} of them are in service now")
    if ready < request.nodes:
        report.note(
            f"too few nodes are in service for the {request.nodes} that are asked for (others "
            "are down or drained): the job will wait until they are back"
        )
    return ready < request.nodes


def _check_counts(report: Report, request: Request, part: Partition, there: int) -> None:
    most, least = part.number("MaxNodes"), part.number("MinNodes")
    limit = there if most is None else min(most, there)
    if request.nodes > limit:
        has = f"has {there} nodes" if limit == there else f"lets a job have {most} nodes"
        report.add(
            "cluster.nodes",
            f"is more than partition {part.name} can give, it {has}",
            str(request.nodes),
            f"up to {limit}",
            "ask for fewer nodes, or choose another partition",
        )
    elif least is not None and request.nodes < least:
        report.add(
            "cluster.nodes",
            f"is less than partition {part.name} accepts",
            str(request.nodes),
            f"from {least} on",
            "ask for more nodes, or choose another partition",
        )


def _needs(request: Request, facts: Facts, part: Partition) -> list[Need]:
    most = part.number("MaxCPUsPerNode")
    path = request.cpus_why if request.cpus_why.startswith("cluster.") else "cluster.cpus_per_rank"
    why = ""
    if request.ranks_per_node > 1:
        why = f" ({request.ranks_per_node} ranks with {request.cpus_per_rank} each)"
    elif not request.cpus_why.startswith("cluster."):
        why = f" ({request.cpus_why})"
    found = [
        Need(path, "CPU cores", request.cpus_per_node, lambda n: _capped(n.cpus, most), why=why)
    ]
    memory = _memory_mb(request, facts, part)
    if memory is not None:
        cap = part.number("MaxMemPerNode")
        why = "" if request.mem_gb is not None else " (the default of the cluster)"
        found.append(
            Need(
                "cluster.mem_gb",
                "memory",
                memory,
                lambda n: _capped(n.memory_mb, cap),
                " GB",
                _MB_PER_GB,
                why,
            )
        )
    if request.gpus_per_node:
        gres, kind = request.gres, request.gpu_type
        noun = f"GPUs of type {kind}" if kind else f"GPUs ({gres})"
        found.append(
            Need(
                "cluster.gpus_per_node", noun, request.gpus_per_node, lambda n: n.count(gres, kind)
            )
        )
    return found


def _capped(count: int, most: int | None) -> int:
    return count if most is None else min(count, most)


def _memory_mb(request: Request, facts: Facts, part: Partition) -> int | None:
    """Memory of the job on each node, or None where it cannot be told or takes what is there."""
    if request.mem_gb is not None:
        return request.mem_gb * _MB_PER_GB
    if {"mem-per-cpu", "mem-per-gpu", "exclusive"} & set(request.more):
        return None
    for fields in (part.fields, facts.settings):
        per_node, per_cpu = fields.get("DefMemPerNode", ""), fields.get("DefMemPerCPU", "")
        if per_node.isdecimal():
            return int(per_node) or None
        if per_cpu.isdecimal():
            return int(per_cpu) * request.cpus_per_node or None
    return None


def _explain(
    report: Report, needs: Sequence[Need], nodes: Sequence[Node], part: Partition, request: Request
) -> None:
    """Names each need that no node meets; or, when only all together fail, what each could be."""
    alone = [need for need in needs if not any(need.met(node) for node in nodes)]
    for need in alone:
        if need.path == "cluster.gpus_per_node" and _wrong_kind(report, request, nodes, part):
            continue
        most = max(need.has(node) for node in nodes)
        report.add(
            need.path,
            f"no node of partition {part.name} has so much: {need.noun} on each node{need.why}",
            need.words(need.wanted, up=True),
            f"up to {need.words(most)}",
            "ask for less, or choose another partition",
        )
    if alone or not needs:
        return
    for need in needs:
        rest = [node for node in nodes if all(o.met(node) for o in needs if o is not need)]
        if rest:
            most = max(need.has(node) for node in rest)
            report.add(
                need.path,
                f"no node of partition {part.name} has so much beside the rest that is asked "
                f"for: {need.noun} on each node{need.why}",
                need.words(need.wanted, up=True),
                f"up to {need.words(most)} with the rest as it is",
                "ask for less of one of them",
            )
    if not report.wrong:
        asked = ", ".join(f"{need.words(need.wanted, up=True)} {need.noun}" for need in needs)
        what = f"no node of partition {part.name} has all of this at once"
        report.add("cluster", what, asked, None, "ask for less, or choose another partition")


def _wrong_kind(report: Report, request: Request, nodes: Sequence[Node], part: Partition) -> bool:
    """Whether it is the name of the GPUs, not their number; then that is the problem."""
    gpus = [(kind, n) for node in nodes for name, kind, n in node.gres if name == request.gres]
    if not gpus:
        names = sorted({name for node in nodes for name, _, _ in node.gres})
        report.add(
            "cluster.gpus_per_node",
            f"no node of partition {part.name} has GPUs under the name that the site gives them",
            f"{request.gpus_per_node} of {show(request.gres)}",
            f"GRES {', '.join(names)}" if names else "no GPUs at all",
            "choose another partition" if not names else "correct gres in the site's profile",
        )
        return True
    kinds = sorted({kind for kind, _ in gpus if kind})
    if request.gpu_type is None or request.gpu_type in kinds:
        return False
    report.add(
        "cluster.gpu_type",
        f"no node of partition {part.name} has GPUs of this type",
        show(request.gpu_type),
        ", ".join(kinds) or "null: the GPUs here have no types",
        "write one of these" if kinds else "remove it",
    )
    return True


def _with_features(
    report: Report, request: Request, facts: Facts, part: Partition, nodes: list[Node]
) -> list[Node]:
    """Those of the nodes that a constraint lets in; all, where it is beyond this check."""
    if request.constraint is None:
        return nodes
    there = sorted(set[str]().union(*(node.features for node in facts.nodes_of(part.name))))
    wanted = re.findall(r"[A-Za-z0-9_.:=/+-]+", re.sub(r"\*\d+", "", request.constraint))
    unknown = [word for word in wanted if word not in there]
    if unknown:
        report.add(
            "cluster.constraint",
            f"no node of partition {part.name} has the feature {', '.join(map(show, unknown))}",
            show(request.constraint),
            ", ".join(there) or "null: the nodes here have no features",
            "write one of these" if there else "remove it",
        )
        return nodes
    if re.search(r"[\[\]()*]", request.constraint) or {"&", "|"} <= set(request.constraint):
        report.note(
            f"cluster.constraint {show(request.constraint)}: its features exist, which nodes "
            "they leave is for SLURM to say"
        )
        return nodes
    choose = any if "|" in request.constraint else all
    fits = [node for node in nodes if choose(word in node.features for word in wanted)]
    if nodes and not fits:
        report.add(
            "cluster.constraint",
            f"no node of partition {part.name} that can carry the job has these features together",
            show(request.constraint),
            ", ".join(there),
            "ask for fewer features, or for less on each node",
        )
    return fits
