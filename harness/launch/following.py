"""Printing logs as they grow: over requeues, new jobs and ranks, until the run is over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from harness.launch.logs import Log, find_logs, last_lines_at
from harness.runs.paths import RunPaths
from harness.runs.storage import storage_error

EVERY_S = 1.0
"""Seconds between two looks for new lines."""
_CHUNK = 1 << 16


class Reader:
    """Gives what was added to one log since it was asked last, in whole lines.

    A log that was cut or replaced is read from its beginning again.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self._offset = offset
        self._file: tuple[int, int] | None = None
        self._rest = b""

    def read(self, *, last: bool = False) -> list[str]:
        """New lines; with ``last`` also one that has no end yet.

        Raises:
            StorageError: the file is there and cannot be read.
        """
        raw = self._rest + self._new_bytes()
        if last:
            self._rest = b""
        else:
            whole, newline, self._rest = raw.rpartition(b"\n")
            raw = whole + newline
        return raw.decode(errors="replace").splitlines()

    def _new_bytes(self) -> bytes:
        try:
            with self.path.open("rb") as stream:
                facts = os.fstat(stream.fileno())
                file = (facts.st_dev, facts.st_ino)
                if self._file not in (None, file) or facts.st_size < self._offset:
                    self._offset, self._rest = 0, b""
                self._file = file
                stream.seek(self._offset)
                pieces = list(iter(lambda: stream.read(_CHUNK), b""))
                self._offset = stream.tell()
                return b"".join(pieces)
        except FileNotFoundError:
            return b""  # not there yet, or replaced at this moment
        except OSError as error:
            raise storage_error(error, self.path) from error


class Printer:
    """Writes lines of several logs one after the other.

    Of one rank each change of the file gets a heading as tail writes it; of several ranks each
    line begins with ``[rank]``.
    """

    def __init__(self, out: TextIO, *, prefix: bool) -> None:
        self._out = out
        self._prefix = prefix
        self._shown: Path | None = None

    def show(self, log: Log, lines: Iterable[str]) -> None:
        """Prints lines of one log."""
        for line in lines:
            if not self._prefix and log.path != self._shown:
                self._write(("" if self._shown is None else "\n") + f"==> {log.path.name} <==")
                self._shown = log.path
            self._write(f"[{log.rank}] {line}" if self._prefix else line)

    def _write(self, line: str) -> None:
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        self._out.write(line.encode(encoding, "replace").decode(encoding) + "\n")
        self._out.flush()


def follow(
    paths: RunPaths,
    printer: Printer,
    is_over: Callable[[], bool],
    *,
    job: str | None = None,
    rank: int | None = 0,
    streams: str = "both",
    lines: int = 0,
    every_s: float = EVERY_S,
) -> None:
    """Prints the newest job's logs and all that is added, in files that come later too.

    Args:
        is_over: whether nothing more comes; what is there by then is still printed.
        job, rank, streams: as for :func:`harness.launch.logs.find_logs`.
        lines: how many lines of each log that is there already; 0 is all.

    Raises:
        StorageError: a log cannot be read.
    """
    logs = find_logs(paths, job=job, rank=rank, streams=streams)
    newest = logs[-1].job if logs else None
    readers = {}
    for log in logs:
        # What older jobs have printed is over; only what they may still add is of interest.
        offset = last_lines_at(log.path, lines) if log.job == newest else log.path.stat().st_size
        readers[log.path] = Reader(log.path, offset)
    while True:
        over = is_over()  # asked first: what was printed before it was over is then there
        for log in find_logs(paths, job=job, rank=rank, streams=streams):
            reader = readers.setdefault(log.path, Reader(log.path))
            printer.show(log, reader.read(last=over))
        if over:
            return
        time.sleep(every_s)
