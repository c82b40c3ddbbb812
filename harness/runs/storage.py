"""Storage that refuses, in the user's words: full, over quota, read-only, not permitted."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from harness.errors import StorageError

_ELSEWHERE = "choose another place with --run-dir or --runs-root"

# errno -> what is wrong, what to do next
_MEANING = {
    errno.ENOSPC: ("no space is left on the file system", f"free some space, or {_ELSEWHERE}"),
    errno.EDQUOT: (
        "your quota is used up (in bytes or in files)",
        f"look at your quota, delete old runs or `harness move` them away, or {_ELSEWHERE}",
    ),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.EACCES: ("not permitted", f"ask the owner for write access, or {_ELSEWHERE}"),
    errno.EPERM: ("not permitted", f"ask the owner for write access, or {_ELSEWHERE}"),
    errno.ENOTDIR: ("a part of the path is a file, not a directory", "correct the path"),
    errno.EISDIR: ("a directory stands where a file belongs", "move that directory away"),
    errno.EEXIST: ("it is there already", "choose another name"),
    errno.ENOENT: ("it is not there (any more)", "look whether it was deleted or purged"),
    errno.ENAMETOOLONG: ("the path is too long", "choose a shorter one"),
    errno.ELOOP: ("symbolic links go round in a circle", "correct the links"),
    errno.EIO: ("the storage reports an I/O error", "try again; if it stays, tell its operators"),
    errno.ESTALE: (
        "the network file system lost the file (stale handle)",
        "run the same command again; it goes on from what was saved",
    ),
}


def storage_error(error: OSError, path: Path | str) -> StorageError:
    """The error for users that belongs to ``error``, met at ``path``; says what to do next."""
    what, action = _MEANING.get(
        error.errno or 0, (error.strerror or str(error), "look at the file system, then try again")
    )
    if error.errno == errno.ENOSPC and _files_left(path) == 0:
        what = "no file can be made any more, the file system has space but no inodes left"
        action = f"delete files you no longer need, or {_ELSEWHERE}"
    got = None
    if error.errno in (errno.EACCES, errno.EPERM):
        got = _who_may(path)
    return StorageError(f"{path}: {what}", got=got, action=action)


def check_space(path: Path | str, need_bytes: int) -> None:
    """Refuses early when the file system of ``path`` (which may not exist yet) is too full.

    A quota is not seen here, the system does not tell it; :func:`check_writable` meets one that
    is used up already.

    Raises:
        StorageError: fewer than ``need_bytes`` bytes, or no file at all, can be made there.
    """
    place = nearest_existing(path)
    try:
        facts = os.statvfs(place)
    except OSError as error:
        raise storage_error(error, place) from error
    free = facts.f_bavail * facts.f_frsize
    if free < need_bytes:
        raise StorageError(
            f"{place}: the file system is almost full",
            got=f"{readable_bytes(free)} free, {readable_bytes(need_bytes)} needed",
            action=_MEANING[errno.ENOSPC][1],
        )
    # Some file systems (btrfs, many network ones) do not count files and say 0 of 0.
    if facts.f_files > 0 and facts.f_favail == 0:
        raise storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), place)


def check_writable(folder: Path) -> os.stat_result:
    """Writes, syncs and removes a small file in ``folder``; returns what it was like.

    The result's ``st_uid`` is who we are *on that file system*, which under root squash or in a
    container need not be ``os.geteuid()``.

    Raises:
        StorageError: the folder cannot be written, or not a single block fits.
    """
    probe = folder / f".probe.{secrets.token_hex(4)}.tmp"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # A quota or a full disk often shows only when a block is really written.
            os.write(descriptor, b"\0" * 4096)
            os.fsync(descriptor)
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink(missing_ok=True)  # a holder of the run's lock may have swept it away
    except OSError as error:
        raise storage_error(error, folder) from error


def nearest_existing(path: Path | str) -> Path:
    """``path`` itself or its nearest ancestor that exists."""
    place = Path(os.path.abspath(path))  # noqa: PTH100 - links are not to be followed
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    return place


def readable_bytes(count: float) -> str:
    """A number of bytes for people, in powers of 1000: ``1.2 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _files_left(path: Path | str) -> int | None:
    """How many files can still be made there; None where that is not counted or not told."""
    try:
        facts = os.statvfs(nearest_existing(path))
    except OSError:
        return None
    return facts.f_favail if facts.f_files > 0 else None


def _who_may(path: Path | str) -> str | None:
    place = nearest_existing(path)
    try:
        facts = place.stat()
    except OSError:
        return None
    return f"{place} with owner {owner_name(facts.st_uid)}, mode {stat.filemode(facts.st_mode)}"


def owner_name(uid: int) -> str:
    """The login name of a user id, or the id itself where the system knows no name for it."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
