"""``slurm/jobs.jsonl``: what was submitted for a run, so that others can ask the scheduler."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass, fields

from harness.runs.clock import utc_now
from harness.runs.files import append_line, read_lines, to_json_line
from harness.runs.paths import RunPaths
from harness.runs.storage import owner_name, storage_error

SLURM, LOCAL = "slurm", "local"


@dataclass(frozen=True)
class Job:
    """One submission.

    ``id`` is the scheduler's, of an array without the task; for a local job it is the process id
    of its controller, ``host`` the machine that it is on, and ``start`` what the kernel says of
    its start (:func:`harness.runs.lock.process_start`), since process ids are used again.
    ``tasks`` is the number of tasks of a chain, None for a job that is no array.  ``user`` is who
    has submitted it, None where that is not known.
    """

    id: str
    executor: str = SLURM
    site: str = "generic"
    submitted: str = ""
    tasks: int | None = None
    ranks: int = 1
    host: str | None = None
    start: str | None = None
    user: str | None = None


def record_job(paths: RunPaths, job: Job) -> Job:
    """Notes a submission, with the present time, host and user unless it has its own.

    Raises:
        StorageError: the run directory cannot be written.
    """
    facts = asdict(job)
    facts["submitted"] = job.submitted or utc_now()
    facts["host"] = job.host or socket.gethostname()
    facts["user"] = job.user or owner_name(os.geteuid())
    append_line(paths.jobs, to_json_line(facts))
    return Job(**facts)


def read_jobs(paths: RunPaths) -> list[Job]:
    """All submissions of a run, oldest first; none for a run that was never submitted.

    A line may come from the batch script of a prepared submission, which knows the id only.

    Raises:
        StorageError: the file is there and cannot be read.
    """
    known = {one.name for one in fields(Job)}
    lines, _torn = read_lines(paths.jobs)
    found: dict[str, Job] = {}
    for line in lines:
        if isinstance(line.get("id"), str):
            found[line["id"]] = Job(**{name: line[name] for name in known & line.keys()})
    return list(found.values())


def last_job(paths: RunPaths) -> Job | None:
    """The newest submission of a run, None if it was never submitted."""
    jobs = read_jobs(paths)
    return jobs[-1] if jobs else None


def prune_job_files(paths: RunPaths, keep: int) -> None:
    """Removes scripts, logs and pickles of all but the newest ``keep`` submissions.

    Raises:
        StorageError: one cannot be removed.
    """
    try:
        for job in read_jobs(paths)[:-keep]:
            for path in paths.slurm.glob(f"{job.id}_*"):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, paths.slurm) from error
