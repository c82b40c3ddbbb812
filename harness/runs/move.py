"""Moving a run: by rename on one file system, else by a verified copy that comes first.

The source stays whole until the copy is complete, compared and durable; only then does it go,
by one rename.  A move that is interrupted at any moment leaves the run in one place at least.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import StorageError, UsageError
from harness.runs.files import TEMPORARY, fsync_dir, sha256_file
from harness.runs.lock import RunLock
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.runs.state import run_state
from harness.runs.storage import check_space, check_writable, readable_bytes, storage_error

_CHUNK = 1 << 20
_PER_FILE = 4096  # what a small file takes on disk at least


@dataclass(frozen=True)
class Moved:
    """What a move did.  ``copied`` is False for a rename; then nothing was read."""

    source: Path
    target: Path
    copied: bool
    files: int
    bytes: int


def move_run(paths: RunPaths, target: Path) -> Moved:
    """Moves the run to ``target``, which must not exist; its parent must.

    Modes are kept.  Where the target's parent has the setgid bit, all files get its group, as if
    they had been made there.

    Raises:
        UsageError: the run is running, the target exists or lies inside the run, or the run holds
            something that is neither file, folder nor link.
        StorageError: no space, not writable, or a copied file is not equal to its source.
    """
    source = paths.root
    target = RunPaths(target).root
    read_record(paths)
    _refuse_target(source, target)
    check_writable(target.parent)
    check_writable(source.parent)
    if run_state(paths).word == "running":
        with RunLock(paths):  # names the holder; without one, another host's heartbeat is fresh
            raise UsageError(
                f"{source}: the run is running",
                got=str(run_state(paths).reason),
                action="wait for its end or stop it, then move it",
            )
    with RunLock(paths):
        if _on_one_file_system(source, target.parent):
            return _rename(source, target)
        return _copy_then_remove(paths, target)


def _on_one_file_system(source: Path, folder: Path) -> bool:
    return source.stat().st_dev == folder.stat().st_dev


def _refuse_target(source: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise UsageError(
            f"{target}: is there already",
            action=f"name a place that does not exist yet, such as {target / source.name}",
        )
    if not target.parent.is_dir():
        raise UsageError(
            f"{target.parent}: is no folder", action=f"make it first: mkdir -p {target.parent}"
        )
    if target.parent.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{target}: lies inside the run itself", action="choose another place")


def _rename(source: Path, target: Path) -> Moved:
    entries = list(_walk(source))
    try:
        group = _group_below(target.parent)
        if group is not None:
            # Before the rename: a group that we may not give is then found out with nothing moved.
            for relative, facts in entries:
                _adopt(source / relative, facts.st_mode, group)
        source.rename(target)
        fsync_dir(target.parent)
        fsync_dir(source.parent)
    except OSError as error:
        raise storage_error(error, target) from error
    return Moved(source, target, False, len(entries), sum(f.st_size for _r, f in entries))


def _copy_then_remove(paths: RunPaths, target: Path) -> Moved:
    source = paths.root
    entries = [(relative, facts) for relative, facts in _walk(source) if _is_kept(relative, paths)]
    size = sum(facts.st_size for _relative, facts in entries if stat.S_ISREG(facts.st_mode))
    check_space(target.parent, size + _PER_FILE * len(entries))
    staging = target.parent / f".{target.name}.moving{TEMPORARY}"
    _clear(staging)
    try:
        _copy_tree(source, staging, entries)
        if os.path.lexists(target):
            raise UsageError(f"{target}: somebody made it meanwhile", action="choose another place")
        staging.rename(target)
        fsync_dir(target.parent)
    except BaseException as error:
        _clear(staging)
        if isinstance(error, OSError):
            raise storage_error(error, target) from error
        raise
    _remove(source, target)
    return Moved(source, target, True, len(entries), size)


def _walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Relative path and lstat of everything below ``root``, the root first, parents first.

    Raises:
        UsageError: a socket, FIFO or device is there.
        StorageError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise storage_error(error, error.filename or root) from error

    yield Path(), root.lstat()
    for folder, folders, files in os.walk(root, onerror=refuse):
        for name in sorted(folders) + sorted(files):
            path = Path(folder, name)
            facts = path.lstat()
            if stat.S_IFMT(facts.st_mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                raise UsageError(
                    f"{path}: is neither file, folder nor link, it cannot be moved",
                    action="delete it, then move the run",
                )
            yield path.relative_to(root), facts


def _is_kept(relative: Path, paths: RunPaths) -> bool:
    # Copying the lock file would open and close it, and so drop the lock that we hold.
    if relative == paths.lock.relative_to(paths.root):
        return False
    return not (relative.name.startswith(".") and relative.name.endswith(TEMPORARY))


def _copy_tree(source: Path, staging: Path, entries: list[tuple[Path, os.stat_result]]) -> None:
    group = _group_below(staging.parent)
    for relative, facts in entries:
        made = staging / relative
        if stat.S_ISDIR(facts.st_mode):
            made.mkdir(mode=0o700)
        elif stat.S_ISLNK(facts.st_mode):
            made.symlink_to((source / relative).readlink())
        else:
            _copy_file(source / relative, made)
        _adopt(made, facts.st_mode, group)
        if stat.S_ISREG(facts.st_mode):
            os.utime(made, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    for relative, facts in reversed(entries):  # children first
        if stat.S_ISDIR(facts.st_mode):
            fsync_dir(staging / relative)


def _copy_file(source: Path, made: Path) -> None:
    """Copies one file durably; reads the copy back from the disk and compares the SHA-256."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reading, made.open("xb") as writing:
        while chunk := reading.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            writing.write(chunk)
        writing.flush()
        os.fsync(writing.fileno())
        if hasattr(os, "posix_fadvise"):
            # Else the comparison would read our own pages, not what reached the storage.
            os.posix_fadvise(writing.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if made.stat().st_size != size or sha256_file(made) != digest.hexdigest():
        raise StorageError(
            f"{made}: the copy is not equal to {source}",
            got=f"{readable_bytes(made.stat().st_size)} of {readable_bytes(size)}",
            action="the run is whole where it was; check the target's storage, then try again",
        )


def _group_below(folder: Path) -> int | None:
    facts = folder.stat()
    return facts.st_gid if facts.st_mode & stat.S_ISGID else None


def _adopt(path: Path, mode: int, group: int | None) -> None:
    """Mode as at the source, group of a setgid target; the bit stays on folders that have it."""
    if group is not None and path.lstat().st_gid != group:
        os.chown(path, -1, group, follow_symlinks=False)
    if stat.S_ISLNK(mode):
        return
    wanted = stat.S_IMODE(mode)
    if stat.S_ISDIR(mode) and group is not None:
        wanted |= stat.S_ISGID
    if stat.S_IMODE(path.stat().st_mode) != wanted:
        path.chmod(wanted)


def _remove(source: Path, target: Path) -> None:
    """Takes the source out of sight by one rename, then deletes it."""
    trash = source.parent / f".{source.name}.moved{TEMPORARY}"
    try:
        _clear(trash)
        source.rename(trash)
        fsync_dir(source.parent)
        shutil.rmtree(trash)
    except OSError as error:
        left = trash if trash.exists() else source
        raise StorageError(
            f"the run is whole in {target}, but its old place could not be deleted",
            got=f"{error.strerror or error} at {error.filename or left}",
            action=f"delete it yourself: rm -r {left}",
        ) from error


def _clear(folder: Path) -> None:
    """Deletes what an interrupted move left behind."""
    if os.path.lexists(folder):
        shutil.rmtree(folder)
