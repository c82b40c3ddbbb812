"""What keeps a submission whole: one at a time, and its marks put back if it fails."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UsageError
from harness.runs.files import write_atomic
from harness.runs.paths import RunPaths
from harness.runs.storage import storage_error

_BUSY = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def submitting(paths: RunPaths) -> Iterator[None]:
    """Holds the lock of submissions of a run.

    Raises:
        UsageError: another process is submitting it.
        StorageError: the lock file cannot be written.
    """
    try:
        descriptor = os.open(paths.submit_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise storage_error(error, paths.submit_lock) from error
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                raise UsageError(
                    f"{paths.root}: another process is submitting this run at this moment",
                    action=f"look with `harness status {paths.root}`",
                ) from None
            # Some file systems have no locks; the jobs that are noted still tell of one another.
            if error.errno not in _NO_LOCKS:
                raise storage_error(error, paths.submit_lock) from error
        yield
    finally:
        os.close(descriptor)


def set_aside(folder: Path) -> Path:
    """Takes a folder away under a name that nobody knows, at once; it is removed later.

    Removing it in its place would not do: on NFS a folder with an open file (the lock) stays, and
    another command may already make something new there.
    """
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.refused")
    try:
        folder.rename(aside)
    except OSError as error:
        raise storage_error(error, folder) from error
    return aside


@contextmanager
def put_back_on_error(*marks: Path, but_not: type[BaseException] | None = None) -> Iterator[None]:
    """Removes marks of earlier attempts, which would end the new job at once.

    They come back if the submission fails: the run is then what it was before.

    Args:
        but_not: an error after which the job may be there all the same.
    """
    held = {mark: mark.read_bytes() for mark in marks if mark.exists()}
    for mark in held:
        mark.unlink()
    try:
        yield
    except BaseException as error:
        if but_not is None or not isinstance(error, but_not):
            for mark, content in held.items():
                write_atomic(mark, content)
        raise
