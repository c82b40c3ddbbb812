"""The logs of a run's jobs: which there are, their last lines, and which rank failed first."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.launch.jobfacts import base_id
from harness.runs.jobs import Job, read_jobs
from harness.runs.paths import RunPaths
from harness.runs.storage import storage_error

TAIL_LINES = 40
_NAME = re.compile(r"(?P<id>[0-9]+(?:_[0-9]+)?)_(?P<rank>[0-9]+)_log\.(?P<stream>out|err)")
_TAIL_BYTES = 1 << 20
"""How much of the end of a log is read to find its last lines, and the failure in them."""
_BLOCK = 1 << 16
_START = re.compile(r"^harness: job \S+, start [0-9]+")
"""What the batch script writes at each start, see protocol.sh."""
_TASK = re.compile(r"^srun: error: (?P<node>[^:\s]+): tasks? (?P<tasks>[0-9,-]+): (?P<how>.+)$")
_LOST = re.compile(r"^harness: rank (?P<rank>[0-9]+) \(node [^)]*\) (?P<how>failed|ended)")
"""What rank 0 says of another one that is lost, see harness.worker.ranks."""
_LEAVES = "harness: leaves, since "
"""What the others say then, which are not the cause."""
_TRACEBACK = ("Traceback (most recent call last)", "Fatal Python error", "harness: ")


@dataclass(frozen=True)
class Log:
    """One file: what one rank of a job printed to one stream, over all its starts."""

    path: Path
    job: str
    rank: int
    stream: str


@dataclass(frozen=True)
class Failure:
    """The rank that failed first: how it is known, and the last lines of its log."""

    rank: int
    how: str
    log: Path
    lines: list[str]


def find_logs(
    paths: RunPaths, *, job: str | None = None, rank: int | None = 0, streams: str = "both"
) -> list[Log]:
    """Logs that are there, in the order of submissions, chain tasks, ranks and streams.

    Args:
        job: the scheduler's id, of an array with or without the task; None is all jobs.
        rank: None is all ranks.
        streams: ``out``, ``err`` or ``both``.

    Raises:
        StorageError: the folder cannot be read.
    """
    order = {known.id: number for number, known in enumerate(read_jobs(paths))}
    try:
        names = os.listdir(paths.slurm)  # noqa: PTH208 - names are what is matched
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(error, paths.slurm) from error
    found = []
    for name in names:
        parts = _NAME.fullmatch(name)
        if parts is None:
            continue
        log = Log(paths.slurm / name, parts["id"], int(parts["rank"]), parts["stream"])
        wanted = job in (None, log.job, base_id(log.job)) and rank in (None, log.rank)
        if wanted and streams in ("both", log.stream):
            found.append(log)

    def place(log: Log) -> tuple[int, int, int, int]:
        task = log.job.partition("_")[2]
        unknown = len(order)
        return (
            order.get(base_id(log.job), unknown),
            int(task or 0),
            log.rank,
            ("out", "err").index(log.stream),
        )

    return sorted(found, key=place)


def newest_log_id(paths: RunPaths, job: Job) -> str:
    """The id in the names of a job's newest logs; of a chain that of its last task with logs."""
    logs = find_logs(paths, job=job.id, rank=None)
    return logs[-1].job if logs else job.id


def require_logs(paths: RunPaths, job: str | None, rank: int | None, *, waits: bool) -> str | None:
    """The id of the job whose logs are to be shown: the one asked for, else the newest with logs.

    Args:
        waits: logs that are not there yet will be waited for; None may come back.

    Raises:
        UsageError: the run has no such job, or nothing was printed yet.
    """
    known = [known.id for known in read_jobs(paths)]
    if not known:
        raise UsageError(
            f"{paths.root}: was never submitted, so no job has printed anything",
            action=f"`harness run` prints to its terminal; {paths.log} holds what TensorFlow said",
        )
    if job is not None and base_id(job) not in known:
        raise UsageError(
            "the run has no such job", got=job, allowed=", ".join(known), action="name one of these"
        )
    logs = find_logs(paths, job=job, rank=rank)
    if logs or waits:
        return logs[-1].job if logs else None
    other = sorted({log.rank for log in find_logs(paths, job=job, rank=None)})
    if other:
        raise UsageError(
            "that rank has no log", got=str(rank), allowed=f"{other[0]} to {other[-1]}, or all"
        )
    raise UsageError(
        f"job {job or known[-1]} has printed nothing yet",
        action=f"`harness status {shlex.quote(str(paths.root))}` says where it stands; "
        "-f waits for its first line",
    )


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file; none if it is not there.

    Raises:
        StorageError: it is there and cannot be read.
    """
    return _end_of(path).splitlines()[-count:] if count > 0 else []


def last_lines_at(path: Path, count: int) -> int:
    """Where the last ``count`` lines of a file begin, in bytes; 0 for all lines, or no file.

    Raises:
        StorageError: it is there and cannot be read.
    """
    try:
        with path.open("rb") as stream:
            size = at = stream.seek(0, os.SEEK_END)
            while count > 0 and at > 0:
                begin = max(0, at - _BLOCK)
                stream.seek(begin)
                block = stream.read(at - begin)
                # The newline at the very end ends the last line and begins none.
                place = len(block) - 1 if at == size else len(block)
                while count and (place := block.rfind(b"\n", 0, place)) >= 0:
                    count -= 1
                    if not count:
                        return begin + place + 1
                at = begin
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise storage_error(error, path) from error
    return 0


def _end_of(path: Path) -> str:
    """What a log ends with, as much as is looked at; empty if it is not there."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL_BYTES))
            raw = stream.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise storage_error(error, path) from error
    if size > _TAIL_BYTES:
        raw = raw.partition(b"\n")[2]
    return raw.decode(errors="replace")


def failure(paths: RunPaths, log_id: str, lines: int = TAIL_LINES) -> Failure | None:
    """The rank of a job that failed first, and the end of its log; None if there is no log.

    Known, in this order, from:

    1. what srun reported first in the job's last start: it names each rank that ends badly as it
       sees it end, and kills the others after that;
    2. what rank 0 says there of another one that is lost;
    3. the rank whose error log has a traceback, or an error of harness, and was written to last
       the longest time ago;
    4. else rank 0.

    Raises:
        StorageError: a log cannot be read.
    """
    logs = find_logs(paths, job=log_id, rank=None)
    if not logs:
        return None
    said = _last_start(_end_of(paths.job_log(log_id, 0, "err")))
    rank, how = _first_of_srun(said)
    if rank is None:
        rank, how = _lost_to_rank_0(said)
    if rank is None:
        rank, how = _first_to_fall_silent(log for log in logs if log.stream == "err")
    for stream in ("err", "out"):
        path = paths.job_log(log_id, rank, stream)
        found = last_lines(path, lines)
        if found:
            return Failure(rank, how, path, found)
    return Failure(rank, how, paths.job_log(log_id, rank, "err"), [])


def _last_start(text: str) -> list[str]:
    """The lines of a job's last start."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if _START.match(line)]
    return lines[starts[-1] if starts else 0 :]


def _first_of_srun(lines: Iterable[str]) -> tuple[int | None, str]:
    """Rank and words of srun's first report on a rank."""
    for line in lines:
        said = _TASK.match(line)
        if said is not None:
            rank = int(re.split(r"[,-]", said["tasks"])[0])
            return rank, f"{said['how'].strip()} on {said['node']}"
    return None, ""


def _lost_to_rank_0(lines: Iterable[str]) -> tuple[int | None, str]:
    for line in lines:
        said = _LOST.match(line)
        if said is not None:
            return int(said["rank"]), f"it {said['how']}, as rank 0 says"
    return None, ""


def _first_to_fall_silent(logs: Iterable[Log]) -> tuple[int, str]:
    fallen = []
    for log in logs:
        text = _end_of(log.path)
        # Rank 0's log also holds what the batch script says, after the end of all ranks.
        batch = "harness: " if not log.rank else _LEAVES
        own = [line for line in text.splitlines() if not line.startswith(batch)]
        if any(line.startswith(_TRACEBACK) for line in own):
            fallen.append((log.path.stat().st_mtime, log.rank))
    return (min(fallen)[1], "its error came first") if fallen else (0, "")
