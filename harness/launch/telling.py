"""A run with its job as text: what ``harness status`` prints below its paragraph.  Pure."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import Any

from harness.launch.jobfacts import ACTIVE_STATES, WAITING_STATES
from harness.runs.clock import seconds_since, words_for
from harness.runs.describe import paragraph

_SHOWN_ATTEMPTS = 5


def text_of(facts: dict[str, Any]) -> str:
    """The facts of :func:`harness.launch.looking.look_closely` for people."""
    parts = []
    if facts["scheduler"]:
        parts.append(f"{facts['scheduler']}; what the run's files say:\n")
    parts += [paragraph(facts), "", *_table(facts)]
    found = facts["failure"]
    if found is not None:
        where = os.path.relpath(found["log"])
        how = f" ({found['how']})" if found["how"] else ""
        parts += ["", f"rank {found['rank']} failed first{how}"] if found["how"] else [""]
        if found["lines"]:
            parts += [f"last lines of {where}:", *(f"  {line}" for line in found["lines"])]
        else:
            parts.append(f"its log is empty: {where}")
    return "\n".join(parts)


def _table(facts: dict[str, Any]) -> Iterator[str]:
    yield f"run directory  {facts['path']}"
    if facts["updated"]:
        yield f"updated        {facts['updated']}"
    job = facts["job"]
    if job is not None:
        yield f"job            {job_words(job)}"
        if job.get("nodes"):
            yield f"nodes          {job['nodes']}"
        if job.get("elapsed_s") is not None and job["state"] not in WAITING_STATES:
            limit = f" of {words_for(job['limit_s'])}" if job.get("limit_s") else ", no limit known"
            yield f"elapsed        {words_for(job['elapsed_s'])}{limit}"
    yield from _attempts(facts["attempts"])
    if job is not None:
        path = shlex.quote(facts["path"])
        yield f"logs           {facts['path']}/slurm  (harness logs {path})"


def job_words(job: dict[str, Any]) -> str:
    """``12, pending in partition gpu, submitted 3 min ago, expected to start in about 10 min``."""
    parts = [str(job["id"]) + (f", task {job['task']}" if job.get("task") is not None else "")]
    state = job.get("state")
    if state and state != "UNKNOWN":
        where = f" in partition {job['partition']}" if job.get("partition") else ""
        parts.append(state.lower().replace("_", " ") + where)
    elif state:
        parts.append("not known any more")
    if job.get("executor") == "local":
        parts.append(f"on host {job['host']}")
    if job.get("submitted"):
        parts.append(f"submitted {words_for(seconds_since(job['submitted']))} ago")
    if job.get("restarts"):
        parts.append(
            f"started again {job['restarts']} times"
            if job["restarts"] > 1
            else "started again once"
        )
    if job.get("waiting") and state in ACTIVE_STATES:
        parts.append(f"{job['waiting']} more of its chain to come")
    if state in WAITING_STATES and job.get("start"):
        parts.append(expected(job["start"]))
    return ", ".join(parts)


def expected(start: str) -> str:
    """When SLURM expects a job to start, in words."""
    left = -seconds_since(start)
    if left < 1:
        return "expected to start at any moment"
    return f"expected to start in about {words_for(left)} ({start})"


def _attempts(attempts: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each attempt: number, steps, outcome, where, why."""
    if not attempts:
        return
    hidden = len(attempts) - _SHOWN_ATTEMPTS
    more = f" (the last {_SHOWN_ATTEMPTS} of {len(attempts)})" if hidden > 0 else ""
    for number, attempt in enumerate(attempts[-_SHOWN_ATTEMPTS:]):
        title = "" if number else "attempts"
        yield f"{title:<15}{_attempt(attempt)}{more if not number else ''}"


def _attempt(attempt: dict[str, Any]) -> str:
    first, last = attempt["from_step"], attempt["to_step"]
    parts = [f"{attempt['number']}: {attempt['outcome'] or 'no outcome yet'}"]
    if last is not None:
        parts.append(f"steps {first or 0} to {last}")
    if attempt["node"] or attempt["host"]:
        parts.append(f"on {attempt['node'] or attempt['host']}")
    if attempt["job"]:
        parts.append(f"job {attempt['job']}")
    if attempt["message"]:
        parts.append(attempt["message"])
    if attempt["rolled_back_to"] is not None:
        parts.append(f"then rolled back to step {attempt['rolled_back_to']}")
    return ", ".join(parts)
