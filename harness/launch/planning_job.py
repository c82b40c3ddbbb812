"""The job that a spec would be submitted as, for ``harness plan``.  Asks no cluster."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.launch.request import Request
from harness.launch.script import clock
from harness.runs.jobs import LOCAL
from harness.spec import Site


def job_json(request: Request, site: Site) -> dict[str, Any]:
    """The job as plain JSON: what it needs, times in seconds, null for what SLURM decides."""
    facts = asdict(request)
    more = dict(facts.pop("more"))
    return {"site": site.name, "scheduler": site.scheduler, **facts, "sbatch": more}


def job_lines(request: Request, site: Site) -> list[str]:
    """The job in words, a line for each thing."""
    if site.scheduler == LOCAL:
        limit = "no time limit" if request.time_s is None else f"{clock(request.time_s)} at a time"
        return [f"  in the background on this machine (site {site.name}), {limit}"]
    return [
        f"  {_many(request.nodes, 'node')} of {_partition(request)}, "
        f"{_many(request.ranks_per_node, 'rank')} on each",
        f"  {_many(request.cpus_per_rank, 'CPU core')} a rank ({request.cpus_why}), "
        f"{_gpus(request)}, {_memory(request)}",
        f"  {_time(request)}; asked to stop {request.lead_s} s before its end",
        f"  {_GOES_ON[request.continue_by].format(n=request.max_attempts)}",
        "  the batch script: harness submit SPEC --dry-run",
    ]


_GOES_ON = {
    "requeue": "stopped, it is requeued; given up after {n} attempts in a row with no checkpoint",
    "chain": "a chain of {n} jobs, each goes on where the last one stopped",
    "none": "stopped, it goes on by hand only",
}


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _partition(request: Request) -> str:
    return f"partition {request.partition}" if request.partition else "the default partition"


def _gpus(request: Request) -> str:
    kind = f" {request.gpu_type}" if request.gpu_type else ""
    return (
        _many(request.gpus_per_node, f"GPU{kind}") + " a node"
        if request.gpus_per_node
        else "no GPU"
    )


def _memory(request: Request) -> str:
    return "the site's memory" if request.mem_gb is None else f"{request.mem_gb} GB a node"


def _time(request: Request) -> str:
    if request.time_s is None:
        return "the partition's time limit"
    least = ""
    if request.time_floor_s is not None:
        least = f", or as little as {clock(request.time_floor_s)} to start sooner"
    return f"time limit {clock(request.time_s)}{least}"
