"""What a site's profile says against a job, without asking any cluster."""

from __future__ import annotations

from harness.errors import UsageError
from harness.launch.preflight_report import Report
from harness.launch.request import Request, make_request
from harness.runs.jobs import LOCAL
from harness.spec import Resolved
from harness.spec.models_cluster import seconds_of
from harness.spec.models_site import Partition

_OF_A_SCHEDULER = (
    "partition",
    "account",
    "qos",
    "constraint",
    "gpu_type",
    "cpus_per_rank",
    "cpus_per_gpu",
    "mem_gb",
    "time_floor",
)
"""Fields of `cluster` that a local job has no use for."""


def check_by_profile(resolved: Resolved) -> list[str]:
    """Checks a job for somebody who is not on the cluster; gives notes.

    Raises:
        SpecError: with every problem, each with its line.
    """
    report = Report(resolved)
    request = make_request(resolved)
    check_site(report, request)
    _check_partitions(report, request)
    found = report.finish(0.0)
    found.raise_if_bad()
    return list(found.notes)


def check_site(report: Report, request: Request) -> None:
    """What only the profile knows, since the cluster does not tell it: who may call what where,
    and when files are deleted."""
    site = report.resolved.site
    if site.scheduler != LOCAL and site.compute_may_control is False:
        _check_control(report, request)
    if site.purge_days is not None:
        report.note(
            f"site {site.name} deletes files on scratch that nobody has touched for "
            f"{site.purge_days} days: if the run directory is there, take what you keep to another "
            "place with `harness move`"
        )


def _check_control(report: Report, request: Request) -> None:
    if request.continue_by == "requeue":
        report.add(
            "cluster.continue_by",
            f"cannot be done at site {report.resolved.site.name}: its compute nodes may not call "
            "scontrol (compute_may_control: false)",
            "requeue",
            "chain, none",
            "write continue_by: chain, and in max_attempts how many jobs it has",
        )


def _check_partitions(report: Report, request: Request) -> None:
    """The partitions of a job by what the profile says of them; the cluster itself, which is asked
    before a submission, knows it better."""
    site = report.resolved.site
    names = request.partition.split(",") if request.partition else []
    known = [(name, site.partitions[name]) for name in names if name in site.partitions]
    each = [_limits(report, request, name, part) for name, part in known]
    # Of several partitions one that has everything is enough, as one may that is not known.
    if len(known) == len(names) and all(own.wrong for own in each):
        for own in each:
            report.wrong += own.wrong
    for name, part in known:
        if part.preemptable:
            by_hand = request.continue_by == "none"
            goes_on = "; the run then goes on by hand only" if by_hand else ""
            report.note(
                f"jobs in partition {name} are stopped for others, says site {site.name}{goes_on}"
            )


def _limits(report: Report, request: Request, name: str, part: Partition) -> Report:
    own = Report(report.resolved)
    says = f"partition {name} by the profile of site {report.resolved.site.name}"
    action = "ask for less, choose another partition, or correct the profile"
    longest = None if part.time_max is None else seconds_of(part.time_max)
    if longest is not None and request.time_s is not None and request.time_s > longest:
        got, allowed = report.resolved.spec.cluster.time, f"up to {part.time_max}"
        own.add("cluster.time", f"is longer than a job may last in {says}", got, allowed, action)
    # 0 GPUs are believed only where they are written: it is also what nobody has filled in.
    gpus = part.gpus_per_node if "gpus_per_node" in part.model_fields_set else None
    why = request.cpus_why
    asked = why == "default" or why.startswith("cluster.")  # else it is a share of a node
    needs = (
        ("cluster.gpus_per_node", "GPUs", request.gpus_per_node, gpus, ""),
        (
            why if why.startswith("cluster.") else "cluster.cpus_per_rank",
            "CPU cores",
            request.cpus_per_node if asked else None,
            part.cpus_per_node,
            "",
        ),
        ("cluster.mem_gb", "memory", request.mem_gb, part.mem_gb, " GB"),
    )
    for path, noun, wanted, most, unit in needs:
        if most is not None and wanted is not None and wanted > most:
            what = f"is more than a node has in {says}: {noun} on each node"
            own.add(path, what, f"{wanted}{unit}", f"up to {most}{unit}", action)
    return own


def check_without_scheduler(resolved: Resolved, prepare: bool) -> tuple[str, ...]:
    """Refuses what cannot be done without a scheduler; notes on what has no meaning there.

    Raises:
        UsageError: names what needs SLURM.
    """
    cluster = resolved.spec.cluster
    needing = {
        "--prepare": prepare,
        f"cluster.nodes: {cluster.nodes}": cluster.nodes > 1,
        "cluster.continue_by: chain": cluster.continue_by == "chain",
        "cluster.sbatch": bool(cluster.sbatch),
        "cluster.container": cluster.container is not None,
    }
    if any(needing.values()):
        raise UsageError(
            "that needs SLURM, and this site has none",
            got=", ".join(name for name, asked in needing.items() if asked)
            + f" at site {resolved.site.name}",
            action="leave it out, or name a site with SLURM",
        )
    unused = [name for name in _OF_A_SCHEDULER if getattr(cluster, name) is not None]
    if resolved.sources.get("cluster.max_attempts", "default") != "default":
        unused.append("max_attempts")
    if not unused:
        return ()
    fields = ", ".join(f"cluster.{name}" for name in unused)
    return (f"without a scheduler there is no use for {fields}",)
