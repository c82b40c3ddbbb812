"""Whether the partition is there, is open, lets a job last so long, and has nodes for it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from harness.launch.cluster_facts import Facts, Partition
from harness.launch.preflight_fit import check_nodes
from harness.launch.preflight_report import Report
from harness.launch.request import Request
from harness.spec.base import show

PARTITION = "cluster.partition"
_STATES = {
    "DOWN": "takes jobs and starts none",
    "DRAIN": "takes no new jobs",
    "INACTIVE": "neither takes nor starts jobs",
}


@dataclass(frozen=True)
class Fit:
    """What the nodes were found to be: ``judged`` is false where no partition could be looked
    at; ``waits`` where enough nodes fit, but too few of them are in service now."""

    judged: bool
    waits: bool = False


def check_partitions(
    report: Report, request: Request, facts: Facts
) -> tuple[tuple[Partition, ...], Fit]:
    """Checks the partitions of a job; gives those that it can really go to.

    SLURM takes a list (``short,long``) and starts the job where it can first; so one that has
    everything is enough, and what is wrong with the others is only told.
    """
    named = _named(report, request, facts)
    alone = [(part, _check_one(report, request, facts, part)) for part in named]
    good = [(part, waits) for part, (own, waits) in alone if not own.wrong]
    for part, (own, _) in alone:
        if good and own.wrong:
            for problem in own.wrong:
                report.note(f"not in partition {part.name}: {problem.what}, got {problem.got}")
        else:
            report.wrong += own.wrong
            for text in own.notes:
                report.note(text)
    usable = tuple(part for part, _ in good)
    fit = Fit(bool(named), bool(good) and all(waits for _, waits in good))
    return usable or tuple(named), fit


def _named(report: Report, request: Request, facts: Facts) -> list[Partition]:
    shown = [p.name for p in facts.partitions.values() if p.state == "UP" and not p.is_hidden]
    up = ", ".join(shown) or "none is up"
    if request.partition is None:
        if facts.default_partition is None:
            what = "is not given, and this cluster has no default partition"
            report.add(PARTITION, what, "null", up, "name one of these")
            return []
        report.note(
            f"{PARTITION} is not given: jobs go to {facts.default_partition.name}, the default"
        )
        return [facts.default_partition]
    found = []
    for name in request.partition.split(","):
        if name in facts.partitions:
            found.append(facts.partitions[name])
            continue
        near = difflib.get_close_matches(name, shown, 1)
        action = f"write {near[0]}" if near else "name one of these"
        report.add(PARTITION, "there is no such partition", show(name), up, action)
    return found


def _check_one(
    report: Report, request: Request, facts: Facts, part: Partition
) -> tuple[Report, bool]:
    own = Report(report.resolved)
    if part.state != "UP":
        means = _STATES.get(part.state, "is not open")
        others = [p.name for p in facts.partitions.values() if p.state == "UP" and not p.is_hidden]
        own.add(
            PARTITION,
            f"this partition {means}",
            f"{part.name} in state {part.state}",
            ", ".join(others) or "none is up",
            "choose another, or wait until its operators have opened it again",
        )
    _check_time(own, request, part)
    waits = check_nodes(own, request, facts, part)
    _note_preemption(own, request, facts, part)
    return own, waits


def _check_time(own: Report, request: Request, part: Partition) -> None:
    longest, usual = part.seconds("MaxTime"), part.seconds("DefaultTime")
    if request.time_s is not None:
        if longest is not None and request.time_s > longest:
            own.add(
                "cluster.time",
                f"is longer than partition {part.name} lets a job last",
                duration(request.time_s),
                f"up to {duration(longest)}",
                "write less: a run goes on in its next attempt",
            )
        return
    limit = usual if usual is not None else longest
    if limit is None:
        own.note(f"cluster.time is not given: partition {part.name} has no time limit")
        return
    own.note(
        f"cluster.time is not given: partition {part.name} gives every attempt {duration(limit)}"
    )
    if request.lead_s >= limit:
        own.add(
            "cluster.time",
            f"is not given, and of the default of partition {part.name} nothing is left before "
            f"the signal to stop, {request.lead_s} s before the end",
            duration(limit),
            f"up to {duration(longest)}" if longest is not None else None,
            "set cluster.time",
        )


def check_chain(report: Report, request: Request, facts: Facts) -> None:
    """A chain is an array with one task for each attempt, and arrays have a longest length."""
    longest = facts.settings.get("MaxArraySize", "")
    if request.continue_by != "chain" or not longest.isdecimal():
        return
    if request.max_attempts > int(longest):
        report.add(
            "cluster.max_attempts",
            "is more than the jobs that this cluster allows in a chain (an array)",
            str(request.max_attempts),
            f"up to {longest}" if int(longest) else "no arrays at all",
            "write less" if int(longest) else "use another cluster.continue_by",
        )


def duration(seconds: int) -> str:
    """``2:00:00`` or ``1-00:00:00``, as a spec has it."""
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock.zfill(8)}" if days else clock


def _note_preemption(own: Report, request: Request, facts: Facts, part: Partition) -> None:
    """What happens to a job here that has to make room, when that is known."""
    kind = facts.settings.get("PreemptType", "").rpartition("/")[2]
    mode = part.fields.get("PreemptMode", "OFF").upper()
    if kind == "qos":
        own.note("jobs of this cluster may be preempted by those of another QOS")
    if kind != "partition_prio" or mode.startswith("OFF") or not _preemptors(facts, part):
        return
    over = ", ".join(_preemptors(facts, part))
    grace = part.number("GraceTime") or 0
    text = f"jobs in partition {part.name} are preempted by those in {over}"
    if grace == 0:
        every = own.resolved.spec.checkpoint.every
        text += f", with no time to save: a run loses what it did since its last save ({every})"
    elif grace < request.lead_s:
        text += f", with {grace} s to save, less than the {request.lead_s} s before a time limit"
    if "CANCEL" in mode:
        text += "; a preempted job is cancelled and does not come back by itself"
    own.note(text)


def _preemptors(facts: Facts, part: Partition) -> list[str]:
    mine = {node.name for node in facts.nodes_of(part.name)}
    tier = part.number("PriorityTier") or 0
    return [
        other.name
        for other in facts.partitions.values()
        if (other.number("PriorityTier") or 0) > tier
        and mine & {node.name for node in facts.nodes_of(other.name)}
    ]
