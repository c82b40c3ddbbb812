"""The run record, ``run.json``: what the run is, on what it ran, and its final figures.

Only the holder of the run's lock writes it after creation.
"""

from __future__ import annotations

from typing import Any

from harness.errors import StorageError
from harness.runs.files import read_json, to_json, write_atomic
from harness.runs.paths import RunPaths

RECORD_VERSION = 1


def write_record(paths: RunPaths, record: dict[str, Any]) -> None:
    """Writes the whole record, durably.

    Raises:
        StorageError: it cannot be written.
        ValueError: a value is NaN or infinite, which JSON cannot hold.
    """
    write_atomic(paths.record, to_json({"harness_run": RECORD_VERSION, **record}))


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
        raise StorageError(
            f"{paths.record}: is no run record",
            got=type(record).__name__,
            allowed="a JSON object",
            action="restore the file from a backup",
        )
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
