"""Folders and locks on a node's own disk, in places where everybody may write."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import StorageError


@contextmanager
def locked(path: Path, how: int) -> Iterator[bool]:
    """Whether the lock could be had at once; it is kept as long as the block lasts.

    The kernel ends it with the process, however that ends.

    ``flock`` and not ``lockf``: two sets in one process must not share a lock.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            # Somebody may have removed the file between the two calls: then it locks nothing.
            if not _is_file(descriptor, path):
                continue
            yield True
            return
        finally:
            os.close(descriptor)


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def own_folder(folder: Path) -> None:
    """Makes a folder of ours alone; others may have made one of its name before.

    Raises:
        StorageError: it is somebody else's, or no folder.
        OSError: it cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise StorageError(
            f"{folder} is not a folder of your own",
            got=f"{stat.filemode(facts.st_mode)}, owner {facts.st_uid}",
            action="remove it, or name another place",
        )
    if stat.S_IMODE(facts.st_mode) & 0o777 != 0o700:
        folder.chmod(0o700)
