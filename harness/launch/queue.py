"""Asking what became of jobs: one ``squeue`` and at most one ``sacct`` for thousands of them."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Sequence
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
    parse_sacct,
    parse_squeue,
)
from harness.launch.slurm import Slurm, SlurmError, controller_down
from harness.runs.jobs import LOCAL, Job, read_jobs
from harness.runs.lock import process_start
from harness.runs.paths import RunPaths
from harness.runs.record import read_record

_AT_ONCE = 5000
"""Ids in one command: they are one word, and Linux takes none of 128 KiB."""


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
    name = read_record(paths).get("name") if alive else None
    own = [job for job in alive if is_own(name, job, facts[job.id])]
    return (own[-1], facts[own[-1].id]) if own else None


def is_own(name: str | None, job: Job, facts: JobFacts) -> bool:
    """Whether SLURM speaks of a run's own job.

    A run may have come from another cluster, where its job's id means another job: one of another
    name than the run, or of another user than the one who has submitted it.
    """
    if None not in (name, facts.name) and name != facts.name:
        return False
    # A number is a user whom this machine has no name for, which proves nothing.
    users = [user for user in (job.user, facts.user) if user and not user.isdecimal()]
    return len(set(users)) < 2


def own_facts(name: str | None, job: Job, facts: JobFacts | None) -> JobFacts | None:
    """What is known of a run's own job: of another one with its id here, nothing is.

    Args:
        name: of the run, which is its job's too.
        facts: what SLURM says of the id; None if it was not asked.
    """
    return facts if facts is None or is_own(name, job, facts) else JobFacts(job.id)


def _queue(ids: list[str], slurm: Slurm) -> dict[str, JobFacts]:
    """What squeue knows, jobs that have ended some minutes ago included."""
    if not slurm.has("squeue"):
        slurm.require()
    slurm.ping()
    found: dict[str, JobFacts] = {}
    for some in _portions(ids):
        found |= _queue_portion(some, slurm)
    return found


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(ids), _AT_ONCE):
        yield ids[first : first + _AT_ONCE]


def _queue_portion(ids: Sequence[str], slurm: Slurm) -> dict[str, JobFacts]:
    which = f"--jobs={','.join(ids)}"
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


def _accounting(ids: Sequence[str], slurm: Slurm) -> dict[str, JobFacts]:
    """What sacct knows; nothing where the site has no accounting or it does not answer."""
    found: dict[str, JobFacts] = {}
    if not ids or not slurm.has("sacct"):
        return found
    words = ["sacct", "--allocations", "--noheader", "--parsable2"]
    words += [f"--delimiter={SACCT_SEPARATOR}", f"--format={SACCT_FORMAT}"]
    for some in _portions(ids):
        try:
            said = slurm.run(*words, f"--jobs={','.join(some)}").stdout
        except (EnvironmentNotAble, SlurmError):
            return found  # the other jobs are unknown then, which is said
        wanted = set(some)
        found |= {job: facts for job, facts in parse_sacct(said).items() if job in wanted}
    return found


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
