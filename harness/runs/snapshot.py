"""Plug-in files of a run, kept as they were at its creation.

A run that is continued uses these, so that an edit in between cannot change it half way.  They
are not group-writable even with ``access: group``: they are programs.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import StorageError
from harness.runs.files import make_dir, sha256_file, write_atomic
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.runs.storage import storage_error

if TYPE_CHECKING:
    from harness.spec import Trust

Entry = dict[str, Any]
"""What ``run.json`` says of one plug-in."""


def keep_plugins(paths: RunPaths, refs: Sequence[str], access: str, trust: Trust) -> list[Entry]:
    """Copies plug-in files into the run; returns what the record says of each reference.

    ``{ref, file, sha256}`` with ``file`` relative to the run; an entry point has only ``ref``.

    Args:
        refs: as in the spec, files absolute.
        trust: whose files may be taken.  Asked here, since a copy is our own and would pass.

    Raises:
        SpecError: a file cannot be read or its owner is not trusted.
        StorageError: the copy cannot be written.
    """
    if not refs:
        return []
    from harness.spec.plugin_files import is_file_ref, read_trusted

    kept: list[Entry] = []
    for ref in refs:
        if not is_file_ref(ref):
            kept.append({"ref": ref})
            continue
        content, digest = read_trusted(Path(ref), trust)
        copy = make_dir(paths.plugins, access) / _free_name(Path(ref).name, kept)
        write_atomic(copy, content)
        kept.append({"ref": ref, "file": str(copy.relative_to(paths.root)), "sha256": digest})
    if paths.plugins.exists():
        guard_plugins(paths)
    return kept


def kept_plugins(paths: RunPaths, record: dict[str, Any] | None = None) -> list[str]:
    """What to load for a run: its own copies (absolute paths) and entry points, in order.

    The run may be a colleague's: what it says is not believed further than its own folder.

    Raises:
        StorageError: a copy is missing, is not what it was at creation, or is not in the run.
    """
    known = read_record(paths) if record is None else record
    return [
        str(_checked_copy(paths, entry)) if "file" in entry else str(entry["ref"])
        for entry in known.get("plugins") or []
    ]


def _checked_copy(paths: RunPaths, entry: Entry) -> Path:
    copy = paths.root / entry["file"]
    if copy.parent != paths.plugins or copy.name == ".." or copy.is_symlink():
        raise StorageError(
            f"{paths.record}: names a plug-in that is no file of the run's own",
            got=repr(entry["file"]),
            allowed="a file in plugins/",
            action="restore run.json, or start a new run",
        )
    try:
        same = sha256_file(copy) == entry["sha256"]
    except OSError as error:
        raise storage_error(error, copy) from error
    if not same:
        raise StorageError(
            f"{copy}: the run's copy of a plug-in was changed after the run was created",
            got=f"another SHA-256 than run.json has for {entry['ref']}",
            action="restore the file, or start a new run",
        )
    return copy


def guard_plugins(paths: RunPaths) -> None:
    """Takes the group's right to write off the copies and their folder."""
    try:
        for path in (paths.plugins, *paths.plugins.iterdir()):
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~stat.S_IWGRP)
    except OSError as error:
        raise storage_error(error, paths.plugins) from error


def _free_name(name: str, kept: list[Entry]) -> str:
    """Two files of one name from different folders must not overwrite each other."""
    taken = {Path(entry["file"]).name for entry in kept if "file" in entry}
    free, count = name, 2
    while free in taken:
        free, count = f"{Path(name).stem}_{count}{Path(name).suffix}", count + 1
    return free
