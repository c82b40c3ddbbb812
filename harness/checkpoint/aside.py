"""Checkpoints set aside: taken out of a restore's sight, and back.  Nothing is deleted here.

``set-aside-1`` and so on are folders beside the checkpoints, one for each time; restores, retention
and the batch script look at ``step-`` alone.  A folder holds the checkpoints under their own names
and a note, which is written first and goes last.  So what a kill has left half-done is seen, and
done by the same call again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.checkpoint.manifest import checkpoint_paths, directory_name, read_state
from harness.runs.files import (
    GROUP,
    PRIVATE,
    fsync_dir,
    is_group_folder,
    make_dir,
    read_json,
    to_json,
    write_atomic,
)

NOTE = "note.json"
_NAME = re.compile(r"set-aside-([1-9]\d*)")


def folders_aside(folder: Path) -> list[tuple[int, Path]]:
    """Number and folder of each time that something was set aside, oldest first.

    Raises:
        OSError: the folder of the checkpoints exists and cannot be read.
    """
    try:
        entries = list(folder.iterdir())
    except FileNotFoundError:
        return []
    matches = [(_NAME.fullmatch(entry.name), entry) for entry in entries]
    return sorted((int(match.group(1)), entry) for match, entry in matches if match)


def begin_aside(folder: Path, note: dict[str, Any]) -> Path:
    """A new folder with its note.

    Raises:
        StorageError: it cannot be written.
    """
    number = max((number for number, _ in folders_aside(folder)), default=0) + 1
    access = GROUP if is_group_folder(folder) else PRIVATE
    aside = make_dir(folder / f"set-aside-{number}", access)
    write_atomic(aside / NOTE, to_json(note))
    fsync_dir(folder)
    return aside


def note_of(aside: Path) -> dict[str, Any]:
    """What :func:`begin_aside` was given; {} where it was not written or makes no sense.

    Raises:
        StorageError: it is there and cannot be read.
    """
    try:
        note = read_json(aside / NOTE)
    except FileNotFoundError:
        return {}
    return note if isinstance(note, dict) else {}


def rollbacks_at(checkpoint: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """The field of ``run.json`` that has the roll-backs of ``training.nan``, as it was when a
    checkpoint was saved; {} of a run without it."""
    if "rollbacks" not in record:
        return {}
    kept = read_state(checkpoint).get("rollbacks")
    return {"rollbacks": kept.get("done", []) if isinstance(kept, dict) else []}


def put_aside(found: Iterable[tuple[int, Path]], aside: Path) -> None:
    """Moves checkpoints into a folder of :func:`begin_aside`.

    The newest first: after a kill the run would go on from the newest of those that are left.

    Raises:
        OSError: one cannot be moved.
    """
    for step, path in sorted(found, reverse=True):
        path.rename(aside / directory_name(step))
        fsync_dir(aside)
        fsync_dir(path.parent)


def take_back(aside: Path) -> Sequence[int]:
    """Moves the checkpoints of a folder back to the others, the oldest first; returns their steps.

    Raises:
        OSError: one cannot be moved.
    """
    steps = []
    for step, path in checkpoint_paths(aside):
        path.rename(aside.parent / directory_name(step))
        steps.append(step)
    fsync_dir(aside.parent)
    return steps


def end_aside(aside: Path) -> None:
    """Removes a folder that is empty but for its note.

    Raises:
        OSError: something else is in it, or it cannot be removed.
    """
    (aside / NOTE).unlink(missing_ok=True)
    aside.rmdir()
    fsync_dir(aside.parent)
