"""``FINISHED`` and ``FAILED``: the last word on a run, as a small JSON file each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.runs.clock import utc_now
from harness.runs.files import fsync_dir, to_json, write_atomic
from harness.runs.paths import RunPaths
from harness.runs.storage import storage_error


def mark_finished(paths: RunPaths, *, attempt: int, step: int, total_steps: int) -> None:
    """Says that the run is done; its final figures belong into the record before.

    Raises:
        StorageError: it cannot be written.
    """
    mark = {"time": utc_now(), "attempt": attempt, "step": step, "total_steps": total_steps}
    write_atomic(paths.finished, to_json(mark))


def mark_failed(
    paths: RunPaths,
    reason: str,
    *,
    attempt: int | None = None,
    step: int | None = None,
    total_steps: int | None = None,
) -> None:
    """Says that the run has failed and why, in one sentence.

    Raises:
        StorageError: it cannot be written.
    """
    mark = {"time": utc_now(), "reason": reason, "attempt": attempt}
    mark |= {"step": step, "total_steps": total_steps}
    write_atomic(paths.failed, to_json(mark))


def read_mark(path: Path) -> dict[str, Any] | None:
    """The content of a mark, None if it is not there; plain text in it counts as the reason.

    Raises:
        StorageError: it is there and cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        mark = json.loads(text)
    except ValueError:
        mark = None
    return mark if isinstance(mark, dict) else {"reason": text.strip() or None}


def reopen(paths: RunPaths) -> None:
    """Takes back ``FINISHED``, so that the run goes on (more epochs were asked for).

    Raises:
        StorageError: the run directory cannot be written.
    """
    try:
        paths.finished.unlink(missing_ok=True)
        fsync_dir(paths.root)
    except OSError as error:
        raise storage_error(error, paths.finished) from error
