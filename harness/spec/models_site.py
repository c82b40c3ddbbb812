"""What is true of one cluster, as a site profile says it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from harness.spec.base import (
    Complaint,
    IsPath,
    Many,
    Name,
    PathText,
    SpecModel,
    Words,
    new,
    show,
)
from harness.spec.models_cluster import Cluster, TimeLimit
from harness.spec.models_container import SiteContainer

Seconds = Annotated[int, Field(ge=1, le=86_400)]
VariableName = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), Words("an environment variable's name")
]
OneLine = Annotated[
    str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=4000), Words("text on one line")
]
# `module load` takes several names, and options; here each name stands alone.
ModuleName = Annotated[
    str,
    Field(pattern=r"^[^\s\x00-\x1f\x7f-][^\s\x00-\x1f\x7f]*$"),
    Words("the name of one module, without spaces"),
]

GresName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=100),
    Words("a name of letters, digits and _.-"),
]

ONLY_SLURM = (
    "partitions",
    "gres",
    "environment",
    "ssh",
    "compute_may_submit",
    "compute_may_control",
    "polling",
)
"""Fields of a site that mean nothing where there is no SLURM."""
ONLY_SLURM_CLUSTER = ("partition", "account", "qos", "constraint", "gpu_type", "sbatch")
"""The same of its `cluster`."""
NOT_A_VARIABLE = {
    "PATH": "use environment.modules, init or venv",
    "VIRTUAL_ENV": "use environment.venv",
    "PYTHONHOME": "use environment.venv",
}
"""What `environment.variables` is not for, and what is."""


class Partition(SpecModel):
    """A partition (queue) of the scheduler."""

    time_max: TimeLimit | None = None
    """Longest time limit, "H:MM:SS"; null is unknown.  This and what nodes have is held against a
    spec by `harness validate` and `harness plan`; `harness submit` asks the cluster itself."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    """GPUs of each node."""
    cpus_per_node: Annotated[int, Field(ge=1)] | None = None
    """CPU cores of each node; null is unknown."""
    mem_gb: Annotated[int, Field(ge=1)] | None = None
    """Memory of each node in GB; null is unknown."""
    preemptable: bool = False
    """Whether jobs here are stopped for others; `harness plan` notes it."""


class Build(SpecModel):
    """A Python environment made on node-local disk at the start of a job."""

    requirements: PathText
    """Requirements file that is installed."""
    wheelhouse: PathText | None = None
    """Folder of wheels to install from, without an index; null leaves it to pip's settings."""


class SiteEnvironment(SpecModel):
    """How Python is found on compute nodes.  The Python of the ranks is that of `venv` or `build`;
    else, with `init` or `modules`, the `python3` that PATH leads to after them; else the very
    Python that submits."""

    init: Annotated[str, Field(pattern=r"\S"), IsPath(), Words("a path")] | None = None
    """File of shell commands that every job sources first: what makes `module` known, or brings a
    Python by itself.  null looks for `module` in the usual places, if there are modules to load."""
    modules: Many[ModuleName] = ()
    """Environment modules to load, in order."""
    venv: Annotated[str, Field(pattern=r"\S"), IsPath(), Words("a path")] | None = None
    """Virtual environment, on a file system that all nodes share, whose Python is used."""
    build: Build | None = None
    """Environment that every job makes on node-local disk at its start and removes at its end."""
    container: SiteContainer | None = None
    """How containers are run, for specs that name an image in `cluster.container`: the Python of
    the ranks is then the image's, in the place of `venv` or `build`.  null leaves it to what a node
    has."""
    variables: dict[VariableName, OneLine] = Field(default_factory=dict)
    """Environment variables set in every job, before `init` and `modules`; nothing in them is
    expanded."""

    def checks(self) -> Iterator[Complaint]:
        if self.venv is not None and self.build is not None:
            yield Complaint(
                "build",
                "excludes environment.venv",
                show(self.build.requirements),
                None,
                "keep one of the two",
            )
        for name in self.variables:
            # The job's own are set by SLURM, and what overrides them breaks its commands.
            action = NOT_A_VARIABLE.get(name)
            if action is None and name.startswith(("SLURM", "SBATCH_", "SRUN_")):
                action = "use cluster, or cluster.sbatch"
            if action is not None:
                yield Complaint(
                    f"variables.{name}", "is not for environment.variables", name, None, action
                )


class SiteCluster(Cluster):
    """Values for the spec's `cluster` that are usual at a site."""

    def checks(self) -> Iterator[Complaint]:
        # What goes together is seen once the spec's own values are there too.
        yield from self._options()
        yield from self._container()
        if "site" in self.model_fields_set:
            what = "a site cannot name another site"
            yield Complaint("site", what, show(self.site), None, "remove it")


class Ssh(SpecModel):
    """How the login nodes are reached from outside."""

    host: str | None = None
    """Host that users log in to.  Not used yet."""
    jump: str | None = None
    """Host to jump through.  Not used yet."""


class Polling(SpecModel):
    """How often the scheduler may be asked."""

    queue_s: Seconds = 60
    """Seconds between two questions to the queue; the accounting is asked along with it."""
    accounting_s: Seconds = 300
    """Seconds between two questions to the accounting.  Not used yet."""


class Site(SpecModel):
    """The profile of one cluster."""

    name: Name
    """Name of the site; the user config's `accounts` go by it."""
    description: str = ""
    """What it is, in one line."""
    scheduler: Literal["slurm", "local"] = "slurm"
    """What starts jobs: SLURM, or this very machine, with no queue."""
    cluster: SiteCluster = new(SiteCluster)
    """Values for fields of the spec's `cluster` that neither the spec nor the user config gives."""
    partitions: dict[str, Partition] = Field(default_factory=dict)
    """Partitions by name."""
    gres: GresName = "gpu"
    """Name under which GPUs are asked for, as in `--gres=gpu:4`."""
    environment: SiteEnvironment = new(SiteEnvironment)
    """How Python is found on compute nodes."""
    scratch_variables: Many[VariableName] = ("SLURM_TMPDIR", "TMPDIR")
    """Environment variables that name node-local scratch in a job, first choice first; where none
    is set, `/tmp` is used."""
    ssh: Ssh = new(Ssh)
    """How the login nodes are reached.  Not used yet."""
    quota_command: Many[str] = ()
    """Command that prints the user's quota, as a list of words."""
    purge_days: Annotated[int, Field(ge=1)] | None = None
    """Days after which untouched files on scratch are deleted; null is never.  `harness plan` and
    `harness submit` note it."""
    compute_may_submit: bool | None = None
    """Whether compute nodes may call sbatch.  Not used yet."""
    compute_may_control: bool | None = None
    """Whether compute nodes may call scontrol: where they may not, `cluster.continue_by: requeue`
    is refused; null is unknown, so it is tried."""
    polling: Polling = new(Polling)
    """How often the scheduler may be asked."""

    def checks(self) -> Iterator[Complaint]:
        if self.scheduler == "slurm":
            return
        for name in ONLY_SLURM:
            if name in self.model_fields_set:
                yield _of_slurm(name, getattr(self, name))
        for name in ONLY_SLURM_CLUSTER:
            if name in self.cluster.model_fields_set:
                yield _of_slurm(f"cluster.{name}", getattr(self.cluster, name))


def _of_slurm(path: str, value: object) -> Complaint:
    got = show(value.model_dump() if isinstance(value, SpecModel) else value)
    return Complaint(
        path, "means nothing with scheduler: local", got, None, "remove it, or use scheduler: slurm"
    )
