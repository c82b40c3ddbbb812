"""What SLURM says of a job, and how its commands' tables are read.  Pure.

``squeue`` is asked for columns of fixed width, since a job's name or reason may hold any
character that could separate columns; ``sacct`` for a separator that no value holds.
"""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.runs.clock import UTC

SQUEUE, SACCT, HOST = "squeue", "sacct", "host"
UNKNOWN = "UNKNOWN"
"""State of a job that nobody knows (any more)."""
ENDED = "ENDED"
"""State of a local job whose process is gone."""
CANCELLED = "CANCELLED"
WAITING_STATES = frozenset(
    {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)
"""States of a job that is to start, or to start again."""
ACTIVE_STATES = frozenset(
    {"CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "RESIZING", "SIGNALING", "STOPPED"}
) | {"STAGE_OUT"}
"""States of a job that has nodes."""

# Type of squeue's --Format, and the width of its column.  A node list or a reason that is longer
# is cut by SLURM, which harms nothing else.
_COLUMNS = (
    ("JobArrayID", 60),
    ("State", 20),
    ("Reason", 400),
    ("NodeList", 1000),
    ("TimeUsed", 20),
    ("TimeLimit", 20),
    ("StartTime", 24),
    ("EndTime", 24),
    ("exit_code", 12),
    ("RestartCnt", 12),
    ("Partition", 200),
    ("UserName", 60),
    ("Name", 300),
)
SQUEUE_FORMAT = ",".join(f"{kind}:{width}" for kind, width in _COLUMNS)
SACCT_SEPARATOR = "\x1f"
SACCT_FORMAT = (
    "JobID,State,ExitCode,NodeList,ElapsedRaw,TimelimitRaw,Start,End,Partition,User,JobName,Reason"
)
_SACCT_FIELDS = SACCT_FORMAT.count(",") + 1
_NOTHING = ("", "(null)", "N/A", "None", "None assigned", "Unknown", "n/a")


@dataclass(frozen=True)
class JobFacts:
    """A job as the scheduler knows it; what it does not tell is None.

    Of a chain (an array that runs one task at a time) the facts are those of the task that runs,
    else of the next one, else of the last; ``task`` says which and ``waiting`` how many tasks
    have still to start.  ``state`` is SLURM's word, ``where`` who said it: ``squeue``, ``sacct``,
    ``host`` for a local job, None where nobody knows the job.  ``start`` is in UTC, and only
    estimated while the job is waiting.  ``exit_code`` and ``signal`` are those of the batch script.
    """

    id: str
    state: str = UNKNOWN
    where: str | None = None
    task: int | None = None
    waiting: int = 0
    reason: str | None = None
    nodes: str | None = None
    elapsed_s: int | None = None
    limit_s: int | None = None
    start: str | None = None
    end: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    restarts: int | None = None
    partition: str | None = None
    user: str | None = None
    name: str | None = None
    cancelled_by: str | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it is in the queue."""
        return self.where == SQUEUE and self.state in WAITING_STATES

    @property
    def is_active(self) -> bool:
        """Whether it runs, or is about to begin or to end."""
        return self.where in (SQUEUE, HOST) and self.state in ACTIVE_STATES

    @property
    def is_live(self) -> bool:
        """Whether it may still do something.

        What only the accounting calls running is not there any more: the controller, which was
        asked first, does not know it.
        """
        return self.is_waiting or self.is_active

    @property
    def log_id(self) -> str:
        """The id in the names of its logs."""
        return self.id if self.task is None else f"{self.id}_{self.task}"


def base_id(text: str) -> str:
    """The id of a job without its array task or component: ``12_[3-7%1]`` gives ``12``."""
    return re.split(r"[_+.]", text, maxsplit=1)[0]


def parse_squeue(text: str) -> dict[str, JobFacts]:
    """Facts by job, from what ``squeue --noheader --Format SQUEUE_FORMAT`` printed."""
    rows: dict[str, list[JobFacts]] = {}
    for line in text.splitlines():
        values, at = [], 0
        for _kind, width in _COLUMNS:
            values.append(line[at : at + width].strip())
            at += width
        if values[0]:
            facts = _from_squeue(values)
            rows.setdefault(facts.id, []).append(facts)
    return {job: of_array(tasks) for job, tasks in rows.items()}


def _from_squeue(values: list[str]) -> JobFacts:
    job, state, reason, nodes, used, limit, start, end, code, restarts, *rest = values
    exit_code, signal = parse_exit(code)
    task, waiting = parse_tasks(job)
    pending = state in WAITING_STATES
    return JobFacts(
        base_id(job),
        state,
        SQUEUE,
        task,
        waiting if pending and task is not None else 0,
        _known(reason),
        _known(nodes),
        parse_duration(used),
        parse_duration(limit),
        parse_local_time(start),
        None if pending else parse_local_time(end),
        exit_code,
        signal,
        int(restarts) if restarts.isdecimal() else None,
        *(_known(value) for value in rest),
    )


def parse_sacct(text: str) -> dict[str, JobFacts]:
    """Facts by job, from what ``sacct -X -n -P`` with our separator and format printed."""
    rows: dict[str, list[JobFacts]] = {}
    for line in text.splitlines():
        values = line.split(SACCT_SEPARATOR, _SACCT_FIELDS - 1)
        if len(values) == _SACCT_FIELDS:
            facts = _from_sacct(values)
            rows.setdefault(facts.id, []).append(facts)
    return {job: of_array(tasks) for job, tasks in rows.items()}


def _from_sacct(values: list[str]) -> JobFacts:
    job, said, code, nodes, elapsed, limit, start, end, *rest, reason = values
    state, _, by = said.partition(" by ")
    exit_code, signal = parse_exit(code)
    task, waiting = parse_tasks(job)
    partition, user, name = (_known(value) for value in rest)
    return JobFacts(
        base_id(job),
        state.strip(),
        SACCT,
        task,
        waiting if state in WAITING_STATES and task is not None else 0,
        _known(reason),
        _known(nodes),
        int(elapsed) if elapsed.isdecimal() else None,
        60 * int(limit) if limit.isdecimal() else None,
        parse_local_time(start),
        parse_local_time(end),
        exit_code,
        signal,
        None,
        partition,
        user,
        name,
        user_of(by.strip()) if by else None,
    )


def of_array(tasks: Iterable[JobFacts]) -> JobFacts:
    """One account of all tasks of a job: the active one, else the next, else the last."""
    tasks = list(tasks)
    waiting = sum(task.waiting for task in tasks)
    active = [task for task in tasks if task.state in ACTIVE_STATES]
    queued = [task for task in tasks if task.state in WAITING_STATES]
    if active:
        # One that leaves still holds its place while the next one starts.
        return replace(max(active, key=lambda task: task.task or 0), waiting=waiting)
    if queued:
        # A requeued task has a line of its own beside those that have never started.
        return replace(min(queued, key=lambda task: task.task or 0), waiting=waiting)
    return max(tasks, key=_age)


def _age(task: JobFacts) -> tuple[bool, str, int]:
    """Tasks that had a node come after those that were taken away before they began."""
    return task.nodes is not None, task.end or "", task.task or 0


def parse_tasks(text: str) -> tuple[int | None, int]:
    """First task of a job id as SLURM writes it, and the number of tasks that it stands for.

    ``12`` is no array: (None, 1); ``12_3``: (3, 1); ``12_[2-5,9%1]``: (2, 5).
    """
    _, array, tasks = text.partition("_")
    if not array:
        return None, 1
    spans = re.findall(r"(\d+)(?:-(\d+))?(?::(\d+))?", tasks.strip("[]").partition("%")[0])
    if not spans:
        return None, 1
    count = sum((int(b or a) - int(a)) // int(step or 1) + 1 for a, b, step in spans)
    return int(spans[0][0]), count


def parse_exit(text: str) -> tuple[int | None, int | None]:
    """Exit code and signal of ``7:0``, or of the wait status that older squeue print."""
    code, colon, signal = text.partition(":")
    if not code.isdecimal():
        return None, None
    if colon:
        return int(code), int(signal) if signal.isdecimal() else None
    return int(code) >> 8, int(code) & 0x7F


def parse_duration(text: str) -> int | None:
    """Seconds of ``D-HH:MM:SS``, ``HH:MM:SS`` or ``MM:SS``; None for UNLIMITED and the like."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_local_time(text: str) -> str | None:
    """``2026-11-24T16:10:08`` of this machine's time zone in UTC, with a final Z."""
    import datetime

    try:
        local = time.strptime(text, "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return None
    when = datetime.datetime.fromtimestamp(time.mktime(local), UTC)
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def user_of(uid: str) -> str:
    """Name of a user by the number that SLURM writes, or what it wrote."""
    if not uid.isdecimal():
        return uid
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except KeyError:
        return f"user id {uid}"


def own_name() -> str:
    """The login name of whoever asks."""
    return user_of(str(os.geteuid()))


def _known(text: str) -> str | None:
    return None if text in _NOTHING else text
