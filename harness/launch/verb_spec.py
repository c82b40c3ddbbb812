"""What a verb that runs as a job is, and what it needs: a spec of which only `cluster` counts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.launch.request import make_request
from harness.runs.jobs import LOCAL
from harness.spec import Resolved, load_spec
from harness.spec.base import IsPath
from harness.spec.pathtext import escaped

_MEM_GB = 4
"""Of TensorFlow on the processor, with some pictures in hand."""


@dataclass(frozen=True)
class VerbJob:
    """What is to run.

    Attributes:
        verb: ``pack``.
        words: its arguments in the job.
        subject: the folder or file that it is about: one job at a time is.
        sees: paths that the job must see, if it runs in a container.
        made: folder whose files ``data-*`` show how far it is; None where nothing does.
        resume: the command that submits it again.
        parts: tasks of an array that share the work.
        cpus: CPU cores where nobody says otherwise; None leaves it to the usual number.
        workers: whether the verb takes ``--workers``: as many as it has CPU cores.
    """

    verb: str
    words: tuple[str, ...]
    subject: Path
    sees: tuple[Path, ...]
    made: Path | None
    resume: str
    parts: int = 1
    cpus: int | None = None
    workers: bool = False

    @property
    def name(self) -> str:
        """Of the job, and of its folder."""
        plain = re.sub(r"[^A-Za-z0-9._-]", "-", self.subject.name)[:60]
        return f"{self.verb}-{plain}"

    def root(self, runs_root: Path) -> Path:
        """The folder of the job's files."""
        own = hashlib.sha256(bytes(self.subject)).hexdigest()[:8]
        return runs_root / ".jobs" / f"{self.name}-{own}"


def resolve_job(
    job: VerbJob,
    overrides: Sequence[str],
    site: str | None,
    cluster: Mapping[str, Any] | None = None,
) -> Resolved:
    """The job as a spec whose `cluster` says what it needs, with the site's and the user's values.

    Args:
        overrides: settings of `cluster` (``cluster.time=1:00:00``).
        cluster: more of its values, which a spec that the verb is about gives.

    Raises:
        SpecError: a value is wrong.
        UsageError: something else than `cluster` is set, or what one process on one node cannot be.
    """
    _check_asked(job, overrides)
    seen = [escaped(str(path), IsPath()) for path in job.sees]
    one_process = {
        "nodes": 1,
        "ranks_per_node": 1,
        "strategy": "single",
        "device": "cpu",
        "gpus_per_node": 0,
        "gpu_type": None,
        "cpus_per_gpu": None,
        "cpus_per_rank": job.cpus,
        "mem_gb": _MEM_GB,
    }
    spec = {
        "harness_spec": 1,
        "name": job.name,
        # Nobody asks for it: the verb reads data alone.
        "backbone": {"handle": "plugin:none"},
        "data": {"train": seen[0], "validation": None, "test": seen[-1]},
        "cluster": {**one_process, **(cluster or {})},
    }
    resolved = load_spec(spec, overrides=overrides, site=site)
    _check(job, resolved)
    return resolved


def _check_asked(job: VerbJob, overrides: Sequence[str]) -> None:
    others = [one for one in overrides if not one.startswith("cluster.")]
    if others:
        raise UsageError(
            "only fields of cluster say how a job runs",
            got=f"-o {others[0]}",
            allowed="-o cluster.FIELD=VALUE",
            action="see `harness schema --field cluster`",
        )
    for path in (job.subject, *job.sees):
        if not str(path).isprintable():
            raise UsageError(
                "a path of a job must be printable", got=ascii(str(path)), action="rename it"
            )


def _check(job: VerbJob, resolved: Resolved) -> None:
    cluster = resolved.spec.cluster
    if resolved.site.scheduler == LOCAL:
        raise UsageError(
            f"site {resolved.site.name} has no SLURM",
            got="--slurm",
            action=f"leave out --slurm: `harness {job.verb}` then runs here",
        )
    if make_request(resolved).ranks != 1:
        raise UsageError(
            f"harness {job.verb} is one process",
            got=f"cluster.nodes {cluster.nodes}, cluster.ranks_per_node {cluster.ranks_per_node}",
            allowed="1 each",
            action="ask for more CPU cores (-o cluster.cpus_per_rank=N)"
            + (", or for parts (--jobs N)" if job.verb == "pack" else ""),
        )
    if job.parts > 1 and cluster.continue_by == "chain":
        raise UsageError(
            "the parts of a job cannot each be a chain of jobs",
            got=f"--jobs {job.parts} with cluster.continue_by: chain",
            action="leave out --jobs, or add -o cluster.continue_by=none and submit it again for "
            "what is left",
        )
