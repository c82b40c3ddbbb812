"""The part of the spec that says where it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from harness.spec.base import Complaint, IsPath, SpecModel, Words, show
from harness.spec.models_container import Container, ContainerField, address_complaint

Count = Annotated[int, Field(ge=1, le=1_000_000)]
# What reaches a scheduler: one printable word, never an option, never a second line.
SlurmWord = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,:+=@&|()*\[\]/-]*$", max_length=200),
    Words("one word of letters, digits and _.,:+=@&|()*[]/-"),
]
TimeLimit = Annotated[
    str,
    Field(pattern=r"^([0-9]{1,4}-)?[0-9]{1,4}:[0-5][0-9]:[0-5][0-9]$"),
    Words('a time limit "H:MM:SS" or "D-HH:MM:SS", in quotes'),
]
SiteText = Annotated[
    str,
    Field(pattern=r"^[^\x00-\x1f\x7f]+$"),
    IsPath("site"),
    Words("a site's name, or the path of its YAML file"),
]
StagePlace = Annotated[
    str,
    Field(pattern=r"^(none|scratch|[^\x00-\x1f\x7f]*/[^\x00-\x1f\x7f]*)$"),
    IsPath("stage"),
    Words("none, scratch, or the path of a folder"),
]
SbatchOption = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$"), Words("an option of sbatch")]

OWN_FIELD = {
    "account": "cluster.account",
    "array": "cluster.continue_by",
    "clusters": None,
    "constraint": "cluster.constraint",
    "cpus-per-gpu": "cluster.cpus_per_gpu",
    "cpus-per-task": "cluster.cpus_per_rank",
    "error": None,
    "gpus": "cluster.gpus_per_node",
    "gpus-per-node": "cluster.gpus_per_node",
    "gpus-per-task": "cluster.gpus_per_node",
    "gres": "cluster.gpus_per_node",
    "help": None,
    "input": None,
    "job-name": "name",
    "mem": "cluster.mem_gb",
    "nodes": "cluster.nodes",
    "no-requeue": "cluster.continue_by",
    "ntasks": "cluster.ranks_per_node",
    "ntasks-per-node": "cluster.ranks_per_node",
    "open-mode": None,
    "output": None,
    "parsable": None,
    "partition": "cluster.partition",
    "qos": "cluster.qos",
    "quiet": None,
    "requeue": "cluster.continue_by",
    "signal": "cluster.signal_lead_s",
    "test-only": None,
    "time": "cluster.time",
    "time-min": "cluster.time_floor",
    "usage": None,
    "version": None,
    "wait": None,
    "wrap": None,
}
"""Options of sbatch that a field of the spec stands for; None: the run's own machinery uses it."""


class Cluster(SpecModel):
    """Where and on how much the run is carried out."""

    site: SiteText = "generic"
    """Profile of the cluster: a name (`generic`), or the path of a YAML file."""
    nodes: Count = 1
    """Nodes."""
    gpus_per_node: Annotated[int, Field(ge=0, le=1024)] | None = None
    """GPUs on each node; null asks for none and uses those that are there."""
    ranks_per_node: Count | None = None
    """Processes on each node; null is what the strategy needs."""
    replicas_per_rank: Count | None = None
    """Computing devices of each process; null is all it sees."""
    cpus_per_rank: Count | None = None
    """CPU cores of each process; null is what the strategy needs."""
    cpus_per_gpu: Count | None = None
    """CPU cores for each GPU, instead of `cluster.cpus_per_rank`."""
    mem_gb: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Memory of each node in GB; null is the site's default."""
    time: TimeLimit | None = None
    """Time limit of an attempt, "H:MM:SS" in quotes; null is the partition's default."""
    time_floor: TimeLimit | None = None
    """Shortest time limit that is acceptable, "H:MM:SS" in quotes, to start sooner."""
    strategy: Literal["auto", "single", "mirrored", "multiworker", "horovod"] = "auto"
    """How replicas work together: one device, all devices of a process, or many processes."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """What computes; gpu without a GPU is an error, auto takes a GPU if there is one."""
    partition: SlurmWord | None = None
    """Partition (queue); null leaves the choice to the scheduler."""
    account: SlurmWord | None = None
    """Account that is charged; null is the user's default."""
    qos: SlurmWord | None = None
    """Quality of service."""
    constraint: SlurmWord | None = None
    """Features that nodes must have."""
    gpu_type: SlurmWord | None = None
    """Kind of GPU, as the site names it."""
    signal_lead_s: Annotated[int, Field(ge=10, le=3600)] | None = None
    """Seconds before the time limit at which the run is asked to save and stop, SLURM may do it
    up to 60 earlier; null is 120, or a quarter of a time limit below eight minutes."""
    watchdog_s: Annotated[int, Field(ge=5, le=86_400)] | None = 600
    """Seconds without a step after which the run hangs, however slow its steps are: all ranks are
    ended, and it goes on from the last checkpoint; null waits for ever. Steps that take longer than
    a twentieth of it make it longer, and so does a compilation."""
    max_attempts: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Attempts in a row without a new checkpoint after which the run is given up, and the
    number of jobs in a chain."""
    continue_by: Literal["requeue", "chain", "none"] = "requeue"
    """How an interrupted run goes on: the job is requeued, or the next of a chain of jobs (an
    array that runs one task at a time) takes over, or not by itself."""
    stage: StagePlace = "none"
    """Where each node keeps a copy of packed data while a run trains from them: `scratch` is the
    node's own, by the site's `scratch_variables`; else a folder; `none` reads shared storage."""
    container: ContainerField | None = None
    """Container image in which the ranks run: its path, or a mapping."""
    sbatch: dict[SbatchOption, str | int | bool] = Field(default_factory=dict)
    """Any other option of sbatch, by its long name without the dashes; true is an option
    without a value, false leaves out what the site would add."""

    def checks(self) -> Iterator[Complaint]:
        yield from self._times()
        yield from self._options()
        yield from self._container()
        if self.cpus_per_gpu is not None and not self.gpus_per_node:
            yield Complaint(
                "cpus_per_gpu",
                "counts CPU cores for each GPU, and no GPU is asked for",
                show(self.cpus_per_gpu),
                "cluster.gpus_per_node above 0",
                "set gpus_per_node, or use cpus_per_rank",
            )
        if self.cpus_per_gpu is not None and self.cpus_per_rank is not None:
            yield Complaint(
                "cpus_per_gpu", "excludes cluster.cpus_per_rank", show(self.cpus_per_gpu)
            )

    def _container(self) -> Iterator[Complaint]:
        if self.container is not None and not isinstance(self.container, Container):
            yield from address_complaint("container", self.container)

    def _options(self) -> Iterator[Complaint]:
        for option, value in self.sbatch.items():
            path = f"sbatch.{option}"
            if option in OWN_FIELD:
                field = OWN_FIELD[option]
                action = f"use {field}" if field else "remove it, harness sets it itself"
                yield Complaint(path, "is not for cluster.sbatch", option, None, action)
            elif any(own.startswith(option) for own in OWN_FIELD):
                # sbatch takes abbreviations, which would get past the fields.
                full = ", ".join(own for own in OWN_FIELD if own.startswith(option))
                yield Complaint(path, "is an abbreviation", option, None, f"write {full} in full")
            elif isinstance(value, str) and not value.isprintable():
                # A second line of the script would be executed.
                what = "must be one line of printable text"
                yield Complaint(path, what, show(value), None, "write it on one line")

    def _times(self) -> Iterator[Complaint]:
        limit = None if self.time is None else seconds_of(self.time)
        if limit is not None and limit < 60:
            yield Complaint(
                "time", "is less than SLURM's least", show(self.time), '"0:01:00" or more'
            )
            return
        if limit is not None and self.signal_lead_s is not None and self.signal_lead_s >= limit:
            yield Complaint(
                "signal_lead_s",
                f"leaves nothing of the time limit ({self.time})",
                show(self.signal_lead_s),
                f"less than {limit}",
            )
        if self.time_floor is None:
            return
        if limit is None or seconds_of(self.time_floor) > limit:
            yield Complaint(
                "time_floor",
                "must not be above cluster.time",
                show(self.time_floor),
                f"up to {self.time}" if self.time else "cluster.time to be set too",
            )


def seconds_of(limit: str) -> int:
    """Seconds of a time limit ``H:MM:SS`` or ``D-HH:MM:SS``."""
    days, _, clock = limit.rpartition("-")
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
