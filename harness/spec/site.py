"""What is true of one cluster: a site profile, shipped with the package or a file of one's own."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from harness.errors import Problem, SpecError
from harness.spec.base import IsPath, Many, Name, PathText, SpecModel, Words, new, show
from harness.spec.config import user_config_path
from harness.spec.findings import Findings, check
from harness.spec.layers import Tree, tree_from_document
from harness.spec.models_cluster import TimeLimit
from harness.spec.pathtext import Undefined, absolute, expand_paths
from harness.spec.yaml_read import parse_yaml, read_text

SITES = Path(__file__).resolve().parent / "sites"
"""Profiles that come with the package."""

Seconds = Annotated[int, Field(ge=1, le=86_400)]
VariableName = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), Words("an environment variable's name")
]


class Partition(SpecModel):
    """A partition (queue) of the scheduler."""

    time_max: TimeLimit | None = None
    """Longest time limit, "H:MM:SS"; null is unknown."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    """GPUs of each node."""
    cpus_per_node: Annotated[int, Field(ge=1)] | None = None
    """CPU cores of each node."""
    mem_gb: Annotated[int, Field(ge=1)] | None = None
    """Memory of each node in GB."""
    preemptable: bool = False
    """Whether jobs here are stopped for others."""


class Build(SpecModel):
    """A Python environment made on node-local disk at the start of a job."""

    requirements: PathText
    """Requirements file that is installed."""
    wheelhouse: PathText | None = None
    """Folder of wheels to install from, without an index."""


class SiteContainer(SpecModel):
    """How containers are run."""

    runtime: Many[str] = ("apptainer", "exec", "--nv")
    """Command and options that come before the image."""
    binds: Many[PathText] = ()
    """Folders that are visible inside."""


class SiteEnvironment(SpecModel):
    """How Python is found on compute nodes."""

    modules: Many[str] = ()
    """Environment modules to load, in order."""
    venv: Annotated[str, Field(min_length=1), IsPath(), Words("a path")] | None = None
    """Virtual environment to activate."""
    build: Build | None = None
    """Environment to make on node-local disk."""
    container: SiteContainer | None = None
    """How containers are run; null if the site has none."""
    variables: dict[VariableName, str] = Field(default_factory=dict)
    """Environment variables set in every job."""


class Ssh(SpecModel):
    """How the login nodes are reached from outside."""

    host: str | None = None
    """Host that users log in to."""
    jump: str | None = None
    """Host to jump through."""


class Polling(SpecModel):
    """How often the scheduler may be asked."""

    queue_s: Seconds = 60
    """Seconds between two questions to the queue."""
    accounting_s: Seconds = 300
    """Seconds between two questions to the accounting."""


class Site(SpecModel):
    """The profile of one cluster."""

    name: Name
    """Name of the site."""
    description: str = ""
    """What it is, in one line."""
    cluster: dict[str, Any] = Field(default_factory=dict)
    """Values for fields of `cluster` that neither the spec nor the user config gives."""
    partitions: dict[str, Partition] = Field(default_factory=dict)
    """Partitions by name."""
    gres: str = "gpu"
    """Name under which GPUs are asked for, as in `--gres=gpu:4`."""
    environment: SiteEnvironment = new(SiteEnvironment)
    """How Python is found on compute nodes."""
    scratch_variables: Many[VariableName] = ("SLURM_TMPDIR", "TMPDIR")
    """Environment variables that name node-local scratch, first choice first."""
    ssh: Ssh = new(Ssh)
    """How the login nodes are reached."""
    quota_command: Many[str] = ()
    """Command that prints the user's quota, as a list of words."""
    purge_days: Annotated[int, Field(ge=1)] | None = None
    """Days after which untouched files on scratch are deleted; null is never."""
    compute_may_submit: bool = False
    """Whether compute nodes may call sbatch."""
    compute_may_control: bool = False
    """Whether compute nodes may call scontrol."""
    polling: Polling = new(Polling)
    """How often the scheduler may be asked."""


def site_names() -> list[str]:
    """Names of the profiles that are found without a path."""
    return sorted({file.stem for folder in _folders() for file in folder.glob("*.yaml")})


def _folders() -> list[Path]:
    return [user_config_path().parent / "sites", SITES]


def load_site(name: str, base: Path | None = None) -> Site:
    """The profile of a site, by its name or by the path of its file.

    Raises:
        SpecError: there is no such site, or its file is invalid.
    """
    findings = Findings()
    site, _ = read_site(name, base or Path.cwd(), findings)
    if findings.problems or site is None:
        raise SpecError(findings.sorted())
    return site


def read_site(name: str, base: Path, findings: Findings) -> tuple[Site | None, Tree]:
    """As :func:`load_site`, with the origins; problems go into ``findings``."""
    try:
        file = _site_file(name, base)
    except (Undefined, ValueError, RuntimeError) as error:
        findings.problems.append(Problem(str(error), show(name), action="correct the path"))
        return None, Tree()
    if file is None:
        known = site_names()
        near = difflib.get_close_matches(name, known, 1)
        action = f"write {near[0]}" if near else "choose one of these, or name a YAML file"
        problem = Problem("there is no such site", show(name), ", ".join(known), action)
        findings.problems.append(problem)
        return None, Tree()
    shown = str(file)
    try:
        document = parse_yaml(read_text(file, shown), shown)
    except SpecError as error:
        findings.problems += error.problems
        return None, Tree()
    findings.problems += document.problems
    if not isinstance(document.data, dict):
        what = "a site profile must be a mapping"
        findings.problems.append(Problem(what, show(document.data), file=shown, line=1))
        return None, Tree()
    tree = tree_from_document(document, f"site {name}", shown, file.resolve().parent)
    own = Findings()
    expand_paths(Site, tree, own)
    site = check(Site, tree, own)
    findings.problems += own.problems
    return site, tree


def _site_file(name: str, base: Path) -> Path | None:
    if "/" in name or name.endswith((".yaml", ".yml")):
        return Path(absolute(name, IsPath("site"), base))
    if name.startswith("."):
        return None
    files = [folder / f"{name}.yaml" for folder in _folders()]
    return next((file for file in files if file.is_file()), None)
