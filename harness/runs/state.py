"""The state of a run in one word, worked out from its files; nothing stores it.

==============  =========================================================================
word            seen from
==============  =========================================================================
new             no attempt has begun
running         the lock is held (or another host's heartbeat is fresh), and not FINISHED
stopped         the last attempt saved and left (a signal, a time limit), spec, data, machine or
                storage refused it, more epochs were asked for, or it was rolled back
interrupted     the last attempt ended without a word: killed, or its host went down
finished        FINISHED is there
failed          FAILED is there, or the last attempt says so
==============  =========================================================================
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.runs.attempts import Attempt, read_attempts
from harness.runs.clock import seconds_since, words_for
from harness.runs.heartbeat import FRESH_S, read_heartbeat
from harness.runs.lock import lock_holder
from harness.runs.marks import read_mark
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.runs.storage import storage_error

WORDS = ("new", "running", "stopped", "interrupted", "finished", "failed")


@dataclass(frozen=True)
class RunState:
    """State of a run at one moment.

    ``reason`` says in words why it is so.  ``metrics`` holds the final figures and the best
    one by plain name.  ``updated`` is when the run last gave a sign (UTC).  Steps are optimizer
    updates over the whole run; None where the run has not said yet.  ``last`` is the newest attempt
    of a run that is not finished, ``locked`` whether a process that holds its lock was seen.
    """

    word: str
    reason: str | None
    attempt: int | None
    step: int | None
    total_steps: int | None
    metrics: dict[str, float] = field(default_factory=dict)
    updated: str | None = None
    last: Attempt | None = None
    locked: bool = False


def run_state(paths: RunPaths, record: dict[str, Any] | None = None) -> RunState:
    """Works out the state of a run; reads no more files than the answer needs.

    Args:
        record: the run's record, where the caller has read it already.

    Raises:
        StorageError: the run is broken or cannot be read.
    """
    record = read_record(paths) if record is None else record
    try:
        names = set(os.listdir(paths.root))  # noqa: PTH208 - Path.iterdir gives paths, not names
    except OSError as error:
        raise storage_error(error, paths.root) from error
    if paths.finished.name in names:
        return _finished(paths, record)
    attempts = read_attempts(paths) if paths.attempts.name in names else []
    attempt = attempts[-1] if attempts else None
    holder = lock_holder(paths) if paths.lock.name in names else None
    word, reason = ("running", str(holder)) if holder else _word(paths, names, attempt)
    beat = (read_heartbeat(paths) if paths.heartbeat.name in names else None) or {}
    if word == "running" and (hangs := _hangs(beat, attempt)):
        reason = f"{hangs}; {reason}"
    mark = (read_mark(paths.failed) if word == "failed" else None) or {}
    ended = attempt.ended or attempt.began if attempt else None
    return RunState(
        word,
        reason,
        attempt.number if attempt else None,
        _first(mark.get("step"), _step(attempts, beat)),
        _first(mark.get("total_steps"), beat.get("total_steps"), record.get("total_steps")),
        record_metrics(record),
        max(filter(None, (beat.get("time"), ended, record.get("created"))), default=None),
        attempt,
        holder is not None,
    )


def _hangs(beat: dict[str, Any], attempt: Attempt | None) -> str | None:
    """Of a run that trains and has not done a step for longer than it may; None: it has."""
    limit, seen = beat.get("hangs_after_s"), beat.get("time")
    if not isinstance(limit, (int, float)) or not isinstance(seen, str):
        return None
    if attempt is None or beat.get("attempt") != attempt.number:
        return None  # what it says is of an attempt before
    age = seconds_since(seen)
    return f"hung: no step for {words_for(age)}" if age > limit + FRESH_S else None


def _finished(paths: RunPaths, record: dict[str, Any]) -> RunState:
    mark = read_mark(paths.finished) or {}
    if mark.get("step") is None or mark.get("time") is None:
        mark = {**(read_heartbeat(paths) or {}), **{k: v for k, v in mark.items() if v is not None}}
    return RunState(
        "finished",
        None,
        _first(mark.get("attempt"), record.get("attempts")),
        mark.get("step"),
        _first(mark.get("total_steps"), record.get("total_steps")),
        record_metrics(record),
        mark.get("time") or record.get("created"),
    )


def _step(attempts: Sequence[Attempt], beat: dict[str, Any]) -> int | None:
    """The last step known of a run.

    The heartbeat may be some seconds behind, so it counts only where an attempt goes on or ended
    without a word.  An attempt that ended before it restored anything says nothing of the step.
    """
    if attempts and attempts[-1].rolled_back_to is not None:
        return attempts[-1].rolled_back_to
    for attempt in reversed(attempts):
        if attempt.outcome is None or attempt.to_step is None:
            break
        if attempt.to_step > 0:
            return attempt.to_step
    return _first(beat.get("step"), attempts[-1].to_step if attempts else None)


def _word(paths: RunPaths, names: Collection[str], last: Attempt | None) -> tuple[str, str | None]:
    """State word and reason of a run that nobody holds and is not finished, by its last attempt."""
    if paths.failed.name in names:
        reason = (read_mark(paths.failed) or {}).get("reason")
        return "failed", reason or (last.message if last else None) or "no reason was left"
    if last is None:
        return "new", None
    if last.rolled_back_to is not None:
        return "stopped", f"it was rolled back to step {last.rolled_back_to}"
    if last.outcome is None:
        return _without_outcome(paths, names)
    if last.outcome == "finished":
        return "stopped", "it was done, then more epochs were asked for"
    word = "stopped" if last.outcome in ("requeue", "refused") else last.outcome
    return (word if word in WORDS else "interrupted"), last.message or None


def _without_outcome(paths: RunPaths, names: Collection[str]) -> tuple[str, str]:
    """Nobody holds the lock and the attempt never said how it ended."""
    beat = (read_heartbeat(paths) if paths.heartbeat.name in names else None) or {}
    if beat.get("time"):
        age = seconds_since(beat["time"])
        seen = f"last heartbeat {words_for(age)} ago on host {beat.get('host')}"
        # Locks of some network mounts do not reach other hosts.
        if age < FRESH_S and beat.get("host") != socket.gethostname():
            return "running", f"{seen}, though no lock is seen from here"
    else:
        seen = "no heartbeat"
    return "interrupted", f"its process ended without a word (killed, or its host died); {seen}"


def record_metrics(record: dict[str, Any]) -> dict[str, float]:
    """Final figures and best value of a record, by plain name."""
    metrics: dict[str, float] = {}
    best = record.get("best")
    if isinstance(best, dict) and best.get("metric") and best.get("value") is not None:
        metrics[str(best["metric"])] = best["value"]
    final = record.get("final")
    return {**metrics, **final} if isinstance(final, dict) else metrics


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
