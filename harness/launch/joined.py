"""The state of a run, worked out from its own files and from what SLURM says of its job.  Pure.

Words beside those of :mod:`harness.runs.state`, which keep their meaning:

============  ===========================================================================
word          means
============  ===========================================================================
queued        its job waits for its first start
waiting       its job has run and waits to be started again, by itself
starting      its job has nodes, and this start's attempt has not begun
suspended     its job has nodes, and SLURM has halted it
stopping      its user has cancelled it; it saves and leaves
completing    its attempt is over, and the job has not quite left
cancelled     its user, or somebody else, has ended the job; what was saved is there
============  ===========================================================================

The files win where they are sure (FINISHED, a held lock, an outcome); SLURM wins over a heartbeat,
and says why an attempt without an outcome has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.launch.jobfacts import CANCELLED, ENDED, HOST, UNKNOWN, JobFacts, base_id
from harness.launch.reasons import what_to_do, why_ended, why_waiting
from harness.runs.attempts import Attempt
from harness.runs.clock import words_for
from harness.runs.jobs import LOCAL, Job
from harness.runs.registry import BROKEN, RunSummary

LIVE_WORDS = frozenset({"queued", "waiting", "starting", "suspended", "stopping", "completing"}) | {
    "running"
}
"""States of a run of which more is to come by itself."""


@dataclass(frozen=True)
class Joined:
    """State word of a run, why it is so, and what its user may do (both in words)."""

    state: str
    reason: str | None = None
    next: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether the run goes on by itself."""
        return self.state in LIVE_WORDS


def join(
    row: RunSummary,
    job: Job | None,
    facts: JobFacts | None,
    mark: Mapping[str, Any] | None = None,
) -> Joined:
    """The state of a run.

    Args:
        row: what its files say.
        job: its newest submission, None if it was never submitted.
        facts: what is known of that job; None if nobody could be asked.
        mark: the note of ``harness cancel``, where there is one.
    """
    files = Joined(row.state, row.reason)
    if job is None or row.state in (BROKEN, "finished"):
        return files
    if facts is None:
        return _unasked(files, row, job, mark)
    if facts.is_waiting:
        return files if row.locked else _waiting(row, job, facts)
    if facts.is_active:
        return _active(files, row, facts, mark)
    return files if row.locked else _over(files, row, job, facts, mark)


def has_begun(last: Attempt | None, job: Job) -> bool:
    """Whether an attempt of this submission has begun."""
    return last is not None and last.job is not None and base_id(last.job) == job.id


def of_this_start(last: Attempt | None, facts: JobFacts) -> bool:
    """Whether the newest attempt belongs to the start of the job that goes on now."""
    if last is None or last.job != facts.log_id:
        return False
    return None in (last.restart, facts.restarts) or last.restart == facts.restarts


def _unasked(files: Joined, row: RunSummary, job: Job, mark: Mapping[str, Any] | None) -> Joined:
    if row.state == "new":
        return replace(files, reason=f"it was submitted as job {job.id}")
    if mark is not None and row.state in ("stopped", "interrupted"):
        return Joined("cancelled", _by(mark, None))
    return files


def _waiting(row: RunSummary, job: Job, facts: JobFacts) -> Joined:
    why, todo = why_waiting(facts.reason), what_to_do(facts.reason, job.id)
    again = bool(facts.restarts) or bool(facts.task) or has_begun(row.last, job)
    if not again:
        return Joined("queued", why, todo)
    ended = {"stopped": "it saved and left", "requeue": "it left before its next save"}
    last = row.last.outcome if row.last and has_begun(row.last, job) else None
    before = ended.get(last or "", "its last attempt was ended without a word")
    if facts.restarts and not has_begun(row.last, job):
        before = "its last start ended before an attempt began"
    asked = f" ({row.last.message})" if row.last and row.last.message and last in ended else ""
    return Joined("waiting", f"{before}{asked}; now {why}", todo)


def _active(
    files: Joined, row: RunSummary, facts: JobFacts, mark: Mapping[str, Any] | None
) -> Joined:
    if facts.state == "SUSPENDED":
        return Joined("suspended", "SLURM has halted it for others, and lets it go on later")
    here = of_this_start(row.last, facts)
    ended = here and row.last is not None and row.last.outcome is not None
    if row.state == "failed" and (ended or facts.state == "COMPLETING"):
        return files
    if mark is not None and not ended:
        return Joined("stopping", f"cancelled {_by(mark, None)}; it saves and leaves")
    if facts.state == "COMPLETING":
        return Joined("completing", "its processes have ended, and SLURM cleans up behind them")
    if row.locked or (row.state == "running" and here):
        return files
    if ended and facts.where != HOST:
        return Joined("completing", "its attempt is over, and the job decides how to go on")
    if here and not ended:
        return Joined("running", f"its job runs on {facts.nodes or 'its nodes'}, {_sign(row)}")
    return Joined(
        "starting", f"its job runs on {facts.nodes or 'its nodes'}, and no attempt has begun yet"
    )


def _sign(row: RunSummary) -> str:
    """What an attempt gives to see that holds no lock that is visible from here."""
    if row.reason and "heartbeat" in row.reason:
        return row.reason.rpartition("; ")[2]
    return "and nothing is known of its processes"


def _over(
    files: Joined,
    row: RunSummary,
    job: Job,
    facts: JobFacts,
    mark: Mapping[str, Any] | None,
) -> Joined:
    """The newest job has ended, whatever it was."""
    if row.state == "failed" or _rolled_back(row.last, job) or _by_hand_since(row.last, job):
        return files
    if mark is not None or facts.state == CANCELLED:
        return Joined("cancelled", _by(mark, facts))
    if facts.where is None or facts.state == UNKNOWN:
        return _forgotten(files, row, job)
    how = how_it_ended(facts)
    begun = has_begun(row.last, job)
    if begun and row.last is not None and row.last.outcome is not None:
        return _left(files, row.last, how)
    if facts.state in ("COMPLETED", ENDED) and not begun:
        return Joined("interrupted", f"job {job.id} is over before an attempt began: {how}")
    where = f"at step {row.step}" if begun and row.step else "before training began"
    if begun and not row.step:
        where = "before the first step"
    return Joined("failed", f"job {job.id} ended {where}: {how}")


def _rolled_back(last: Attempt | None, job: Job) -> bool:
    """Whether the run was rolled back since this job."""
    return last is not None and last.rolled_back_to is not None and has_begun(last, job)


def _by_hand_since(last: Attempt | None, job: Job) -> bool:
    """Whether somebody has trained the run outside of jobs after this one was submitted."""
    return last is not None and last.job is None and (last.began or "") > job.submitted


def _left(files: Joined, last: Attempt, how: str) -> Joined:
    """The attempt has said how it ended; the job has ended too, so nothing goes on by itself."""
    if last.outcome in ("stopped", "requeue", "interrupted"):
        said = f"{last.message}; " if last.message else ""
        return replace(files, reason=f"{said}it was not queued again: {how}")
    return files


def _forgotten(files: Joined, row: RunSummary, job: Job) -> Joined:
    """Nobody knows the job any more, or it is on another machine."""
    if job.executor == LOCAL:
        return replace(
            files, reason=files.reason or f"job {job.id} is on host {job.host}, not seen from here"
        )
    gone = f"SLURM no longer knows job {job.id}"
    if row.state == "running":
        # Its heartbeat is fresh, so it ends at this moment or runs where this SLURM is not.
        return replace(files, reason=f"{files.reason}; {gone}")
    if row.state == "new":
        return Joined("interrupted", f"{gone}, and no attempt has begun")
    return replace(files, reason=f"{files.reason}; {gone}" if files.reason else gone)


def how_it_ended(facts: JobFacts) -> str:
    """How a job ended, in words."""
    return why_ended(
        facts.state,
        exit_code=facts.exit_code,
        signal=facts.signal,
        limit=words_for(facts.limit_s) if facts.limit_s else "",
        nodes=facts.nodes or "",
        by=facts.cancelled_by or "",
    )


def _by(mark: Mapping[str, Any] | None, facts: JobFacts | None) -> str:
    if mark is not None:
        return f"by {mark.get('user') or 'its user'} with harness cancel"
    return f"job {facts.id}: {how_it_ended(facts)}" if facts is not None else "by its user"
