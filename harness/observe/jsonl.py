"""``metrics.jsonl``: one strict JSON object a line, whole lines only, one curve over restarts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.observe.appendfile import AppendFile
from harness.observe.writers import check_split, check_step, of_epoch
from harness.runs.clock import utc_now
from harness.runs.files import write_atomic
from harness.runs.paths import RunPaths
from harness.runs.storage import storage_error

if TYPE_CHECKING:
    import numpy as np

RESERVED = ("step", "epoch", "phase", "split", "attempt", "time", "epoch_end", "nonfinite", "torn")
"""Keys of a line that are no metrics."""


class JsonlWriter:
    """Appends to the ``metrics.jsonl`` of a run.

    A line holds ``step, epoch, phase, split, attempt, time``, then the metrics by name.  NaN and
    the infinities are written as null, and their names listed under ``nonfinite``; values of a
    whole epoch carry ``"epoch_end": true``.  A line is one write: what was written survives a
    SIGKILL, and a line that a full disk cut short is taken back.

    Args:
        paths: the run.
        attempt: number written into every line.

    Raises:
        StorageError: the file cannot be opened.
    """

    def __init__(self, paths: RunPaths, attempt: int) -> None:
        self._paths = paths
        self._attempt = attempt
        self._file: AppendFile | None = self._open()

    def scalars(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        split: str,
        epoch: int,
        phase: str,
        epoch_end: bool | None = None,
    ) -> None:
        """See :class:`~harness.observe.writers.MetricWriter`.

        Raises:
            ValueError: a metric has a reserved name, or the split is unknown.
        """
        line: dict[str, Any] = {
            "step": check_step(step),
            "epoch": int(epoch),
            "phase": phase,
            "split": check_split(split),
            "attempt": self._attempt,
            "time": utc_now(),
        }
        if of_epoch(split, epoch_end):
            line["epoch_end"] = True
        lost = []
        for name, value in values.items():
            if name in RESERVED:
                raise ValueError(f"a metric must not be named {name!r}")
            number = float(value)
            line[name] = number if math.isfinite(number) else None
            if line[name] is None:
                lost.append(name)
        if lost:
            line["nonfinite"] = lost
        self._live().write(_line(line))

    def images(self, step: int, tag: str, images: np.ndarray, *, split: str) -> None:
        """Leaves pictures out."""

    def text(self, tag: str, text: str) -> None:
        """Leaves texts out."""

    def rollback(self, step: int) -> None:
        """Moves lines with a later step to ``metrics.superseded.jsonl``.

        Each file is replaced whole.  A kill between the two leaves a line in both; the next
        rollback moves it without a copy.
        """
        self._live().close()
        try:
            _supersede(self._paths, check_step(step))
        finally:
            self._file = self._open()

    def flush(self) -> None:
        """Waits until all lines are on disk."""
        self._live().sync()

    def close(self) -> None:
        """Flushes and closes; twice is fine."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.sync()
            finally:
                file.close()

    def _live(self) -> AppendFile:
        if self._file is None:
            raise ValueError(f"the writer of {self._paths.metrics} is closed")
        return self._file

    def _open(self) -> AppendFile:
        if not _ends_whole(self._paths.metrics):
            _supersede(self._paths, None)
        return AppendFile(self._paths.metrics)


def _supersede(paths: RunPaths, step: int | None) -> None:
    """Takes lines after ``step`` (None: none) and what is no whole line out of the metrics."""
    kept, moved = [], []
    for raw in _read(paths.metrics).splitlines():
        line = _parse(raw)
        if line is None:
            moved.append(_line({"torn": raw.decode("utf-8", "replace")}))
        elif step is not None and (line["step"] > step or line.get("split") == "test"):
            moved.append(raw + b"\n")
        else:
            kept.append(raw + b"\n")
    if moved:
        there = [_whole(raw) for raw in _read(paths.metrics_superseded).splitlines()]
        known = set(there)
        new = [line for line in moved if line not in known]
        write_atomic(paths.metrics_superseded, b"".join(there + new))
    if moved or not _ends_whole(paths.metrics):
        write_atomic(paths.metrics, b"".join(kept))


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    usable = isinstance(line, dict) and type(line.get("step")) is int
    return line if usable else None


def _whole(raw: bytes) -> bytes:
    """A line of the superseded file, kept as strict JSON."""
    try:
        json.loads(raw)
    except ValueError:
        return _line({"torn": raw.decode("utf-8", "replace")})
    return raw + b"\n"


def _line(values: dict[str, Any]) -> bytes:
    # ASCII: a line separator of Unicode inside a name would end the line for some readers.
    return json.dumps(values, allow_nan=False).encode("ascii") + b"\n"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise storage_error(error, path) from error


def _ends_whole(path: Path) -> bool:
    """Whether the file ends in a newline, is empty or is not there."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            if size == 0:
                return True
            stream.seek(size - 1)
            return stream.read(1) == b"\n"
    except FileNotFoundError:
        return True
    except OSError as error:
        raise storage_error(error, path) from error
