"""What a killed or a replaced save leaves behind in the folder of the checkpoints.

Names that begin with a dot are never checkpoints:

* ``.tmp-<host>-<pid>-<random>``: being written, or left by a killed process,
* ``.trash-<name>-<random>``: on its way out; a removal renames first, so that a half-deleted
  checkpoint never carries a checkpoint's name,
* ``.replaced-step-<step>-<random>``: the old checkpoint of a step that is saved again.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from harness.checkpoint.manifest import checkpoint_paths, directory_name, step_of
from harness.runs.files import fsync_dir
from harness.runs.storage import storage_error

OLD_S = 3600.0
"""A temporary of another host that nobody wrote to for so long is taken for abandoned."""

_TEMPORARY = re.compile(r"\.tmp-(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]+")

Log = Callable[[str], None]


def temporary_name() -> str:
    """A name no other save has, which tells whose it is."""
    return f".tmp-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"


def replaced_name(step: int) -> str:
    """A name for the old checkpoint of a step while the new one takes its place."""
    return f".replaced-{directory_name(step)}-{secrets.token_hex(4)}"


def discard(path: Path, log: Log) -> None:
    """Removes a directory: renamed out of sight first, then deleted.

    What cannot be deleted (NFS keeps open files) stays under its ``.trash`` name, is said to
    ``log`` and goes at the next sweep.

    Raises:
        OSError: it cannot even be renamed.
    """
    trash = path
    if not path.name.startswith(".trash-"):
        trash = path.parent / f".trash-{path.name.lstrip('.')}-{secrets.token_hex(4)}"
        path.rename(trash)
    try:
        shutil.rmtree(trash)
    except FileNotFoundError:
        return  # another process was as quick
    except OSError as error:
        log(f"{trash} could not be deleted yet ({error.strerror or error}); it is tried again")


def discard_later(folder: Path, step: int, log: Log) -> None:
    """Removes the checkpoints after ``step``: the run goes back to before them.

    Raises:
        StorageError: the folder cannot be read or changed.
    """
    try:
        for at, path in checkpoint_paths(folder):
            if at > step:
                log(f"removing {path.name}: training went back to before it")
                discard(path, log)
    except OSError as error:
        raise storage_error(error, folder) from error


def sweep_leftovers(folder: Path, log: Log) -> list[Path]:
    """Puts a folder of checkpoints in order after a kill; returns what was removed.

    A checkpoint that was moved aside and whose successor did not arrive gets its name back.
    Temporaries of living processes of this host, and young ones of other hosts, stay.

    Raises:
        OSError: the folder cannot be read or changed.
    """
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    removed = []
    for entry in entries:
        if entry.name.startswith(".replaced-"):
            if not _put_back(entry, log):
                removed.append(entry)
        elif entry.name.startswith(".trash-") or is_abandoned(entry):
            removed.append(entry)
    for entry in removed:
        log(f"removing {entry.name}, a leftover of an earlier save")
        try:
            discard(entry, log)
        except FileNotFoundError:
            continue  # another process was as quick
    return removed


def _put_back(entry: Path, log: Log) -> bool:
    """Gives a checkpoint that was moved aside its name again unless its successor is there."""
    step = step_of(entry)
    if step is None or (entry.parent / directory_name(step)).exists():
        return False
    log(f"{directory_name(step)} was being replaced when the save was killed; it is kept")
    entry.rename(entry.parent / directory_name(step))
    fsync_dir(entry.parent)
    return True


def is_abandoned(entry: Path) -> bool:
    """Whether a directory is what a save that nobody goes on with was writing."""
    match = _TEMPORARY.fullmatch(entry.name)
    if match is None:
        return False
    if match["host"] == _host() and not _alive(int(match["pid"])):
        return True
    return time.time() - _last_written(entry) > OLD_S


def _last_written(entry: Path) -> float:
    times = []
    for path in (entry, *entry.glob("*")):
        try:
            times.append(path.lstat().st_mtime)
        except FileNotFoundError:
            continue  # its writer is alive and has just renamed it
    return max(times, default=time.time())


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's process has the number now, or always had
    return True


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname()) or "host"
