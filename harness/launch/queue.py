"""Asking what became of jobs: one ``squeue`` and at most one ``sacct``, however many they are."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from harness.errors import EnvironmentNotAble
from harness.launch.jobfacts import (
    CANCELLED,
    ENDED,
    HOST,
    SACCT_FORMAT,
    SACCT_SEPARATOR,
    SQUEUE_FORMAT,
    JobFacts,
    own_name,
    parse_sacct,
    parse_squeue,
)
from harness.launch.slurm import Slurm, SlurmError, controller_down
from harness.runs.jobs import LOCAL, Job, read_jobs
from harness.runs.lock import process_start
from harness.runs.paths import RunPaths

_MANY = 5000
"""Above this number all jobs of the user are asked for: a list of ids would be too long a word."""


def ask(jobs: Collection[Job], slurm: Slurm, *, who: bool = False) -> dict[str, JobFacts]:
    """Facts of jobs by their id, one for each; of one that nobody knows the state is UNKNOWN.

    Args:
        who: also ask the accounting who has cancelled a job.

    Raises:
        EnvironmentNotAble: there are SLURM jobs among them, and SLURM is not on this machine or
            does not answer.
    """
    found = {job.id: _local(job) for job in jobs if job.executor == LOCAL}
    ids = sorted({job.id for job in jobs if job.executor != LOCAL and job.id.isdecimal()})
    if ids:
        found |= _queue(ids, slurm)
        cancelled = [job for job in ids if who and job in found and found[job].state == CANCELLED]
        more = _accounting([job for job in ids if job not in found] + cancelled, slurm)
        for job in cancelled:
            by = more.pop(job).cancelled_by if job in more else None
            found[job] = replace(found[job], cancelled_by=by)
        found |= more
    return {job.id: found.get(job.id, JobFacts(job.id)) for job in jobs}


def live(paths: RunPaths, slurm: Slurm) -> tuple[Job, JobFacts] | None:
    """The newest submission of a run that waits or runs, with what is known of it.

    Where no SLURM is installed its jobs cannot be asked for; the run's lock and heartbeat still
    keep two processes from training it.

    Raises:
        EnvironmentNotAble: SLURM is here and does not answer, so nobody can know.
        StorageError: the account of jobs cannot be read.
    """
    jobs = read_jobs(paths)
    if not slurm.has("squeue"):
        jobs = [job for job in jobs if job.executor == LOCAL]
    facts = ask(jobs, slurm)
    alive = [job for job in jobs if facts[job.id].is_live]
    return (alive[-1], facts[alive[-1].id]) if alive else None


def _queue(ids: list[str], slurm: Slurm) -> dict[str, JobFacts]:
    """What squeue knows, jobs that have ended some minutes ago included."""
    if not slurm.has("squeue"):
        slurm.require()
    slurm.ping()
    which = f"--jobs={','.join(ids)}" if len(ids) <= _MANY else f"--user={own_name()}"
    words = ["squeue", "--noheader", "--states=all", which, f"--Format={SQUEUE_FORMAT}"]
    try:
        said = slurm.run(*words).stdout
    except (EnvironmentNotAble, SlurmError) as error:
        # Asked for a single job, it takes one that it no longer knows for an error.
        if "Invalid job id" in str(error):
            return {}
        if isinstance(error, SlurmError):
            raise controller_down(str(error)) from error
        raise
    wanted = set(ids)
    return {job: facts for job, facts in parse_squeue(said).items() if job in wanted}


def _accounting(ids: Iterable[str], slurm: Slurm) -> dict[str, JobFacts]:
    """What sacct knows; nothing where the site has no accounting or it does not answer."""
    ids = list(ids)
    if not ids or not slurm.has("sacct"):
        return {}
    try:
        said = slurm.run(
            "sacct",
            "--allocations",
            "--noheader",
            "--parsable2",
            f"--delimiter={SACCT_SEPARATOR}",
            f"--jobs={','.join(ids)}",
            f"--format={SACCT_FORMAT}",
        ).stdout
    except (EnvironmentNotAble, SlurmError):
        return {}  # the jobs are unknown then, which is said
    wanted = set(ids)
    return {job: facts for job, facts in parse_sacct(said).items() if job in wanted}


def _local(job: Job) -> JobFacts:
    """A local job, by its controller's process; of one on another host nothing is known."""
    host = socket.gethostname()
    if job.host != host or not job.id.isdecimal():
        return JobFacts(job.id)
    alive = process_start(int(job.id)) == job.start and not _is_zombie(job.id)
    state = "RUNNING" if alive and job.start else ENDED
    return JobFacts(job.id, state, HOST, nodes=host)


def _is_zombie(pid: str) -> bool:
    """Whether the process has ended and only nobody has asked yet how; see proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
