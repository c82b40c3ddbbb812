"""The run record, ``run.json``: what the run is, on what it ran, and its final figures.

Only the holder of the run's lock writes it after creation.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import StorageError
from harness.runs.files import TEMPORARY, read_json, to_json, write_atomic
from harness.runs.lock import RunLock
from harness.runs.paths import RunPaths
from harness.runs.storage import storage_error

RECORD_VERSION = 1
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
"""A file system without hard links."""


def write_record(paths: RunPaths, record: dict[str, Any]) -> None:
    """Writes the whole record, durably; what it was before stays beside it.

    Raises:
        StorageError: it cannot be written.
        ValueError: a value is NaN or infinite, which JSON cannot hold.
    """
    text = to_json({"harness_run": RECORD_VERSION, **record})
    try:
        _keep_before(paths)
    except OSError as error:
        raise storage_error(error, paths.record_before) from error
    write_atomic(paths.record, text)


def _keep_before(paths: RunPaths) -> None:
    """A second name for the file that is replaced next: nothing is copied."""
    new = paths.root / f".run.json.{secrets.token_hex(4)}{TEMPORARY}"
    try:
        os.link(paths.record, new)
    except FileNotFoundError:
        return  # the first one
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        write_atomic(paths.record_before, paths.record.read_bytes(), sync=False)
        return
    new.replace(paths.record_before)


def mend_record(paths: RunPaths, say: Callable[[str], None]) -> None:
    """Takes the record as it was before its last change where the record itself is spoilt.

    What the last change held comes again as the run goes on: the best so far and the losses stand
    in the checkpoints.

    Args:
        say: told, in a sentence, if it was so.

    Raises:
        UsageError: it is so, and another process trains the run.
        StorageError: it is so, and there is none before it either, or it cannot be written.
    """
    found = _spoilt(paths.record)
    if found is None:
        return
    with RunLock(paths):
        try:
            before = paths.record_before.read_bytes()
        except FileNotFoundError:
            raise found from None
        except OSError as error:
            raise storage_error(error, paths.record_before) from error
        if _spoilt(paths.record_before) is not None:
            raise found
        write_atomic(paths.record, before)
    say(f"{found.problems[0].what}; taken as it was before its last change")


def _spoilt(path: Path) -> StorageError | None:
    """What is wrong with a record that is there; None if nothing is."""
    try:
        record = read_json(path)
    except FileNotFoundError:
        return None
    except StorageError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return error
    return None if isinstance(record, dict) else _no_record(path, record)


def _no_record(path: Path, found: object) -> StorageError:
    return StorageError(
        f"{path}: is no run record",
        got=type(found).__name__,
        allowed="a JSON object",
        action="restore the file from a backup",
    )


def read_record(paths: RunPaths) -> dict[str, Any]:
    """The record of a run.

    Raises:
        StorageError: there is none, it is broken, or a newer harness wrote it; says which.
    """
    try:
        record = read_json(paths.record)
    except FileNotFoundError as error:
        raise StorageError(
            f"{paths.root}: holds no whole run, run.json is missing",
            action="look at the path; what a start left half-written can be deleted",
        ) from error
    if not isinstance(record, dict):
        raise _no_record(paths.record, record)
    version = record.get("harness_run", RECORD_VERSION)
    if version != RECORD_VERSION:
        raise StorageError(
            f"{paths.record}: written by another version of harness",
            got=f"harness_run {version!r}",
            allowed=str(RECORD_VERSION),
            action="use the harness that wrote it"
            + (f" ({record['harness_version']})" if "harness_version" in record else ""),
        )
    return record


def update_record(paths: RunPaths, **fields: Any) -> dict[str, Any]:
    """Sets ``fields`` (top level) in the record, leaves the others; returns the new record.

    Raises:
        StorageError: it cannot be read or written.
    """
    record = {**read_record(paths), **fields}
    write_record(paths, record)
    return record
