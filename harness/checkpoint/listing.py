"""All that lies in a folder of checkpoints, whole or not, as far as names and manifests tell.

Needs neither TensorFlow nor numpy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.checkpoint.aside import folders_aside
from harness.checkpoint.hoststate import Json
from harness.checkpoint.leftovers import is_abandoned
from harness.checkpoint.manifest import (
    DamagedCheckpoint,
    list_checkpoints,
    read_state,
    step_of,
)

CHECKPOINT, ASIDE, WRITING, LEFT = "checkpoint", "set aside", "being written", "left over"
"""Kinds of what is there: what a restore looks at; what was set aside; a save under way; what a
killed save or an unfinished removal has left, which the next start of the run removes."""


@dataclass(frozen=True)
class Found:
    """One directory.

    ``time`` is UTC as in the manifest, ``bytes`` what its files have, ``state`` the host state;
    ``problem`` says why manifest or state cannot be read.  The other files are not looked into.
    """

    kind: str
    path: Path
    step: int | None
    time: str | None
    bytes: int
    state: dict[str, Json]
    problem: str | None = None


def everything_in(folder: Path) -> list[Found]:
    """What is in ``folder``: checkpoints, oldest first, then those set aside, then the rest.

    What is gone by the time it is looked at (training goes on meanwhile) is left out.

    Raises:
        OSError: the folder exists and cannot be read.
    """
    found = list(_checkpoints(folder, CHECKPOINT))
    for _, aside in folders_aside(folder):
        found += _checkpoints(aside, ASIDE)
    known = {one.path for one in found}
    try:
        others = sorted(path for path in folder.iterdir() if path not in known)
    except FileNotFoundError:
        return found
    for path in others:
        if path.name.startswith((".tmp-", ".trash-", ".replaced-")):
            under_way = path.name.startswith(".tmp-") and not is_abandoned(path)
            kind = WRITING if under_way else LEFT
            found.append(Found(kind, path, step_of(path), None, bytes_in(path), {}))
    return [one for one in found if one.path.exists()]


def bytes_in(folder: Path) -> int:
    """Size of the files directly in a directory; what has just gone counts for nothing."""
    size = 0
    # A save or a removal may be under way, of a file or of the whole directory.
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                size += path.lstat().st_size
    return size


def _checkpoints(folder: Path, kind: str) -> Iterator[Found]:
    for info in list_checkpoints(folder):
        state: dict[str, Json] = {}
        problem = info.problem
        try:
            state = read_state(info.path)
        except DamagedCheckpoint as error:
            problem = problem or error.reason
        time = info.manifest.time if info.manifest else None
        yield Found(kind, info.path, info.step, time, bytes_in(info.path), state, problem)
