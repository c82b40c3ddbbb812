"""Looking at runs: what their files say, joined with what SLURM says of their jobs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.errors import EnvironmentNotAble, StorageError
from harness.launch.jobfacts import JobFacts
from harness.launch.joined import Joined, join
from harness.launch.logs import Failure, failure, newest_log_id
from harness.launch.queue import ask, own_facts
from harness.launch.slurm import Slurm
from harness.runs.describe import status
from harness.runs.jobs import Job, last_job
from harness.runs.marks import read_mark
from harness.runs.paths import RunPaths
from harness.runs.registry import BROKEN, RunSummary, summarize


@dataclass(frozen=True)
class Look:
    """One run at one moment.

    ``facts`` is None where there is no job or SLURM could not be asked; ``note`` then says why.
    """

    paths: RunPaths
    row: RunSummary
    job: Job | None
    facts: JobFacts | None
    joined: Joined
    note: str | None = None

    def row_as_json(self) -> dict[str, Any]:
        """The row of ``harness list --json``."""
        said = {"state": self.joined.state, "reason": self.joined.reason}
        return {**self.row.as_json(), **said, "job": job_as_json(self.job, self.facts)}


def look_at(
    runs: Sequence[RunPaths], slurm: Slurm | None, *, who: bool = False
) -> tuple[list[Look], str | None]:
    """Looks at runs with one question to SLURM for all; None leaves SLURM out.

    SLURM is not asked where no run was submitted, nor about runs that are finished.  Second comes
    why it could not be asked, if it was needed and could not.

    Args:
        who: also ask who has cancelled a job.
    """
    rows = [_row_and_job(paths) for paths in runs]
    jobs = [job for row, job in rows if job is not None and row.state != "finished"]
    facts, note = facts_of(jobs, slurm, who=who)
    looks = []
    for paths, (row, job) in zip(runs, rows, strict=True):
        own = own_facts(row.name, job, facts.get(job.id)) if job else None
        looks.append(look_with(paths, row, job, own, note))
    return looks, note


def look_with(
    paths: RunPaths,
    row: RunSummary,
    job: Job | None,
    facts: JobFacts | None,
    note: str | None = None,
) -> Look:
    """A look whose parts are known already; reads the mark of ``harness cancel`` if it matters."""
    mark = None
    if job is not None and row.state != BROKEN:
        try:
            mark = read_mark(paths.cancelled)
        except StorageError as error:
            row = replace(row, state=BROKEN, reason=error.problems[0].what)
    joined = join(row, job, facts, mark)
    if job is None and row.state == "new" and paths.prepared_script.exists():
        joined = Joined(
            "new",
            "it was prepared, and not submitted yet",
            f"`sbatch {shlex.quote(str(paths.prepared_script))}` submits it",
        )
    return Look(paths, row, job, facts, joined, note if job else None)


def facts_of(
    jobs: Sequence[Job], slurm: Slurm | None, *, who: bool = False
) -> tuple[dict[str, JobFacts], str | None]:
    """Facts by job, and in words why there are none where SLURM cannot be asked."""
    if not jobs:
        return {}, None
    local = [job for job in jobs if job.executor == "local"]
    if slurm is None:
        return ask(local, Slurm({})), None
    try:
        return ask(jobs, slurm, who=who), None
    except EnvironmentNotAble as error:
        problem = error.problems[0]
        said = f"{problem.what} ({problem.got})" if problem.got else problem.what
        return ask(local, slurm), said


def _row_and_job(paths: RunPaths) -> tuple[RunSummary, Job | None]:
    row = summarize(paths)
    if row.state == BROKEN:
        return row, None
    try:
        return row, last_job(paths)
    except StorageError as error:
        return replace(row, state=BROKEN, reason=error.problems[0].what), None


def look_closely(look: Look, lines: int) -> dict[str, Any]:
    """Everything that ``harness status`` knows of a run, as plain JSON.

    Beside what :func:`harness.runs.describe.status` gives: ``state`` and ``reason`` are joined
    with SLURM's, ``next`` is what helps, ``job`` the newest submission with all that is known of
    it, ``scheduler`` why SLURM could not be asked, ``failure`` the rank that failed first with the
    last ``lines`` of its log.

    Raises:
        StorageError: the run is broken; says which file and why.
    """
    found = _failure(look, lines) if look.joined.state == "failed" else None
    return {
        **status(look.paths, look.row),
        "state": look.joined.state,
        "reason": look.joined.reason,
        "next": look.joined.next,
        "job": job_as_json(look.job, look.facts),
        "scheduler": look.note,
        "failure": {**asdict(found), "log": str(found.log)} if found else None,
    }


def _failure(look: Look, lines: int) -> Failure | None:
    if look.job is None:
        return None
    return failure(look.paths, newest_log_id(look.paths, look.job), lines)


def job_as_json(job: Job | None, facts: JobFacts | None) -> dict[str, Any] | None:
    """A submission and what is known of it; ``state`` is null where nobody was asked."""
    if job is None:
        return None
    own = asdict(job)
    del own["start"]  # of a local process; the job's start is what SLURM says
    known = asdict(facts) if facts is not None else {"state": None}
    return {**own, **known, "submitted": job.submitted or None}
