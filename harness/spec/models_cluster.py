"""The part of the spec that says where it runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.spec.base import IsPath, SpecModel, Words

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
SbatchOption = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$"), Words("an option of sbatch")]


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
    signal_lead_s: Annotated[int, Field(ge=10, le=3600)] = 120
    """Seconds before the time limit at which the run is asked to save and stop."""
    max_attempts: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Attempts after which a run that is always interrupted is given up."""
    continue_by: Literal["requeue", "chain", "none"] = "requeue"
    """How an interrupted run goes on: requeue the job, a chain of jobs, or by hand."""
    container: Annotated[str, Field(min_length=1)] | None = None
    """Container image in which the ranks run."""
    sbatch: dict[SbatchOption, str | int | bool] = Field(default_factory=dict)
    """Any other option of sbatch, by its long name without the dashes."""
