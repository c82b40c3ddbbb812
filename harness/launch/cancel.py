"""Ending a run's job so that the run can be gone on with."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import EnvironmentNotAble, UsageError
from harness.launch.jobfacts import JobFacts, own_name
from harness.launch.looking import look_at
from harness.launch.queue import ask, is_own, live
from harness.launch.slurm import Slurm, SlurmError
from harness.runs.clock import utc_now
from harness.runs.files import to_json, write_atomic
from harness.runs.jobs import LOCAL, Job, last_job
from harness.runs.paths import RunPaths
from harness.runs.record import read_record

# The batch script is not there yet, or not any more, so it hears no signal.
_DEAF = ("CONFIGURING", "COMPLETING", "STAGE_OUT")


@dataclass(frozen=True)
class Cancelled:
    """What was done: ``asked`` to save and leave, ``ended`` at once, or ``taken`` off the queue."""

    job: str
    how: str


def cancel(paths: RunPaths, slurm: Slurm, *, now: bool = False) -> Cancelled:
    """Ends the newest job of a run that waits or runs.

    The mark ``slurm/CANCELLED`` comes first: what stops from then on does not queue itself again.
    A job that runs is asked to save and leave.

    Args:
        now: do not wait for a save; what was done since the last checkpoint is lost.

    Raises:
        UsageError: there is no job to cancel, or it is not ours.
        EnvironmentNotAble: SLURM does not answer; nothing has changed then.
        StorageError: the run directory cannot be written.
    """
    read_record(paths)
    found = live(paths, slurm)
    if found is None:
        _refuse_other(paths, slurm)
        raise _nothing_to_cancel(paths, slurm)
    job, facts = found
    with _marked(paths):
        if job.executor == LOCAL:
            return _cancel_local(job, now)
        try:
            return _cancel_slurm(job, facts, slurm, now)
        except SlurmError as error:
            if not ask([job], slurm)[job.id].is_live:
                return Cancelled(job.id, "ended")  # it has ended at the very moment
            raise _refused(job, facts, error) from error


@contextlib.contextmanager
def _marked(paths: RunPaths) -> Iterator[None]:
    """The mark, which is taken back if the job could not be told."""
    before = paths.cancelled.read_bytes() if paths.cancelled.exists() else None
    write_atomic(paths.cancelled, to_json({"time": utc_now(), "user": own_name()}))
    try:
        yield
    except BaseException:
        if before is None:
            paths.cancelled.unlink(missing_ok=True)
        else:
            write_atomic(paths.cancelled, before)
        raise


def _cancel_slurm(job: Job, facts: JobFacts, slurm: Slurm, now: bool) -> Cancelled:
    if now:
        slurm.run("scancel", job.id)
        return Cancelled(job.id, "ended")
    if facts.is_waiting or job.tasks is not None:
        # Only what has not begun: a job may begin at this moment, and is then asked to save.  And
        # of a chain first what waits: beside it scancel repeats the signal until the task has left.
        slurm.run("scancel", "--state=PENDING", job.id)
        facts = ask([job], slurm)[job.id]
        if facts.is_waiting:
            slurm.run("scancel", job.id)
        if not facts.is_active:
            return Cancelled(job.id, "taken")
    if facts.state in _DEAF:
        slurm.run("scancel", job.id)
        return Cancelled(job.id, "ended")
    slurm.run("scancel", "--batch", "--signal=USR2", facts.log_id)
    return Cancelled(facts.log_id, "asked")


def _cancel_local(job: Job, now: bool) -> Cancelled:
    """The controller hands SIGTERM on to all ranks, which save and leave."""
    try:
        if now:
            os.killpg(int(job.id), signal.SIGKILL)  # it leads the group of its ranks
        else:
            os.kill(int(job.id), signal.SIGTERM)
    except ProcessLookupError:
        return Cancelled(job.id, "taken")
    except PermissionError as error:
        raise UsageError(
            f"job {job.id} cannot be cancelled",
            got="a process of another user",
            action="ask whoever has submitted it",
        ) from error
    return Cancelled(job.id, "ended" if now else "asked")


def _refuse_other(paths: RunPaths, slurm: Slurm) -> None:
    """Says so where the id of the newest job means another one, see :func:`is_own`."""
    job, name = last_job(paths), read_record(paths).get("name")
    if job is None or job.executor == LOCAL or not slurm.has("squeue"):
        return
    facts = ask([job], slurm)[job.id]
    if facts.is_live and not is_own(name, job, facts):
        by = f" by {job.user}" if job.user else ""
        raise UsageError(
            f"job {facts.id} is not of this run",
            got=f"a job named {facts.name}, submitted by {facts.user}",
            allowed=f"one named {name}, submitted{by}",
            action="if it is all the same, use scancel; run directories of another cluster hold "
            "ids that mean other jobs here",
        )


def _nothing_to_cancel(paths: RunPaths, slurm: Slurm) -> UsageError:
    looks, _note = look_at([paths], slurm if slurm.has("squeue") else None)
    look = looks[0]
    action = f"`harness status {shlex.quote(str(paths.root))}` says where it stands"
    if look.row.locked:
        action = "stop the process that trains it with SIGTERM; it saves before it leaves"
    elif look.job is not None and look.job.executor == LOCAL and look.job.host:
        action = f"if it runs on host {look.job.host}, cancel it there"
    elif look.job is not None and not slurm.has("squeue"):
        action = "log in to the cluster that it was submitted to, and cancel it there"
    why = f"{look.joined.state}: {look.joined.reason}" if look.joined.reason else look.joined.state
    return UsageError(
        f"{paths.root}: no job of this run waits or runs", got=f"a run that is {why}", action=action
    )


def _refused(job: Job, facts: JobFacts, error: SlurmError) -> UsageError | EnvironmentNotAble:
    said = str(error)
    if "denied" in said.lower():
        return UsageError(
            f"job {job.id} cannot be cancelled, it is not yours",
            got=f"a job of {facts.user}: {said}",
            action=f"ask {facts.user or 'whoever has submitted it'}",
        )
    return UsageError(
        f"job {job.id} was not cancelled",
        got=said,
        action="look with `harness status`, and try again",
    )
