"""``attempts.jsonl`` and the outcome files: every start of a run and how it ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from harness.errors import ExitCode, StorageError
from harness.runs.clock import utc_now
from harness.runs.files import (
    append_line,
    read_json,
    read_lines,
    to_json,
    to_json_line,
    write_atomic,
)
from harness.runs.paths import RunPaths
from harness.runs.record import update_record

OUTCOMES: dict[str, ExitCode | None] = {
    "finished": ExitCode.DONE,
    "stopped": ExitCode.STOPPED,  # saved on a signal or time limit
    "requeue": ExitCode.STOPPED,  # stopped before there was anything to save
    "interrupted": ExitCode.STOPPED,  # ended without a word, found out by another process
    "refused": None,  # spec, data, machine or storage refused; has the error's own exit code
    "failed": ExitCode.TRAINING_FAILED,
}
"""How an attempt can end, and the exit code that belongs to it unless the error has another.

By the outcome alone a batch script knows whether to submit the run again: after ``stopped``,
``requeue`` and ``interrupted`` another attempt gets further; after ``refused`` and ``failed`` it
would meet the same error until somebody mends the cause.
"""


@dataclass(frozen=True)
class Attempt:
    """One start of a run.  ``outcome`` is None while it goes on, and for ever after a crash.

    ``rolled_back_to`` is the step from which the run is to go on by its user's wish, given after
    this attempt.
    """

    number: int
    host: str | None
    pid: int | None
    began: str | None
    ended: str | None = None
    outcome: str | None = None
    from_step: int | None = None
    to_step: int | None = None
    message: str | None = None
    exit_code: int | None = None
    job: str | None = None
    restart: int | None = None
    node: str | None = None
    rolled_back_to: int | None = None


def job_facts(environment: Mapping[str, str]) -> dict[str, Any]:
    """What an attempt notes of the job it is in, from the job's variables; empty outside of one.

    ``job`` is the scheduler's id (``123_4`` for task 4 of array 123), ``restart`` how often SLURM
    has started it again before, ``node`` SLURM's name of the node of this rank.
    """
    job = environment.get("SUBMITIT_LOCAL_JOB_ID") or environment.get("SLURM_JOB_ID")
    if job is None:
        return {}
    if "SLURM_ARRAY_JOB_ID" in environment and "SUBMITIT_LOCAL_JOB_ID" not in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment.get('SLURM_ARRAY_TASK_ID')}"
    restart = environment.get("SLURM_RESTART_COUNT", "0")
    return {
        "job": job,
        "restart": int(restart) if restart.isdecimal() else 0,
        "node": environment.get("SLURMD_NODENAME"),
    }


def begin_attempt(paths: RunPaths, facts: dict[str, Any]) -> int:
    """Notes that an attempt begins and returns its number, counted from 1.

    To be called under the run's lock.  A ``FAILED`` of the attempt before is taken back: the run
    is being tried again.

    Raises:
        StorageError: the run directory cannot be written.
    """
    number = 1 + max((attempt.number for attempt in read_attempts(paths)), default=0)
    _settle(paths, number - _KEPT_OUTCOMES)
    line = {"attempt": number, "event": "begin", "time": utc_now()}
    line |= {"host": socket.gethostname(), "pid": os.getpid()}
    append_line(paths.attempts, to_json_line({**facts, **line}))
    paths.failed.unlink(missing_ok=True)
    update_record(paths, attempts=number)
    return number


def _settle(paths: RunPaths, before: int) -> None:
    """Removes outcome files of attempts below ``before``: the number of files stays bounded.

    What only such a file tells, since a batch script wrote it, goes into ``attempts.jsonl``.
    """
    lines, _torn = read_lines(paths.attempts)
    told = {line.get("attempt") for line in lines if line.get("event") == "end"}
    for path in paths.slurm.glob("outcome-*.json"):
        number = path.stem.removeprefix("outcome-")
        if not number.isdecimal() or int(number) >= before:
            continue
        if int(number) not in told:
            end = _outcome_file(paths, int(number))
            append_line(paths.attempts, to_json_line({**end, "event": "end"}))
        path.unlink(missing_ok=True)


_KEPT_OUTCOMES = 20


def end_attempt(
    paths: RunPaths,
    attempt: int,
    outcome: str,
    from_step: int,
    to_step: int,
    message: str = "",
    *,
    exit_code: int | None = None,
) -> None:
    """Notes how an attempt ended, in ``attempts.jsonl`` and in ``outcome-<attempt>.json``.

    Args:
        outcome: one of :data:`OUTCOMES`.
        from_step, to_step: the attempt did the steps from_step + 1 .. to_step.
        exit_code: of the process; by default the one that belongs to the outcome.  ``refused``
            has none, so it must be given.

    Raises:
        ValueError: the outcome is none of :data:`OUTCOMES`, or lacks its exit code.
        StorageError: the run directory cannot be written.
    """
    if outcome not in OUTCOMES:
        raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}, got {outcome!r}")
    code = OUTCOMES[outcome] if exit_code is None else exit_code
    if code is None:
        raise ValueError(f"outcome {outcome!r} needs the exit code of its error")
    end = {
        "attempt": attempt,
        "event": "end",
        "time": utc_now(),
        "outcome": outcome,
        "from_step": from_step,
        "to_step": to_step,
        "message": message,
        "exit_code": int(code),
    }
    append_line(paths.attempts, to_json_line(end))
    del end["event"]
    write_atomic(paths.outcome(attempt), to_json(end))


def note_roll_back(paths: RunPaths, attempt: int, step: int | None) -> None:
    """Notes that the run goes on from ``step`` after an attempt; None takes such a note back.

    Raises:
        StorageError: it cannot be written.
    """
    line = {"attempt": attempt, "event": "roll_back", "time": utc_now(), "step": step}
    append_line(paths.attempts, to_json_line(line))


def newest_outcome(paths: RunPaths) -> int:
    """The largest number of an outcome file, 0 if there is none."""
    names = (path.stem.removeprefix("outcome-") for path in paths.slurm.glob("outcome-*.json"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def read_attempts(paths: RunPaths) -> list[Attempt]:
    """All attempts of a run, in the order of their numbers.

    An end that is missing in ``attempts.jsonl`` is looked for in the attempt's outcome file, which
    a batch script may have written for a process that could not.

    Raises:
        StorageError: a file is there and cannot be read.
    """
    lines, _torn = read_lines(paths.attempts)
    merged: dict[int, dict[str, Any]] = {}
    for line in lines:
        if isinstance(line.get("attempt"), int):
            facts = merged.setdefault(line["attempt"], {})
            if line.get("event") == "roll_back":
                facts["rolled_back_to"] = line.get("step")
                continue
            when = "began" if line.get("event") == "begin" else "ended"
            facts |= {**line, when: line.get("time")}
    for number, facts in merged.items():
        if facts.get("outcome") is None:
            facts |= _outcome_file(paths, number)
    return [_attempt(number, merged[number]) for number in sorted(merged)]


def _outcome_file(paths: RunPaths, number: int) -> dict[str, Any]:
    try:
        outcome = read_json(paths.outcome(number))
    except FileNotFoundError:
        return {}
    if not isinstance(outcome, dict):
        raise StorageError(
            f"{paths.outcome(number)}: is no outcome", action="delete it; it is only a note"
        )
    return {**outcome, "ended": outcome.get("time")}


def _attempt(number: int, facts: dict[str, Any]) -> Attempt:
    names = [one.name for one in fields(Attempt) if one.name != "number"]
    return Attempt(number, **{name: facts.get(name) for name in names})
