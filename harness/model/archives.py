"""A module that its handle names as an archive on these disks.  Free of TensorFlow.

It is unpacked once, into the cache of fetched backbones, under a name made of its content: another
archive in its place is another module.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from harness.errors import DataError
from harness.model.role import Role
from harness.spec.handles import ARCHIVES

FORMS = "a .tar.gz, .tgz or .tar with saved_model.pb at its top"
_PIECE = 1 << 20
_NAME_LETTERS = 40
"""As many as of the SHA-1 that names a module from an address."""


def content_name(archive: Path, role: Role) -> str:
    """Name of the folder that an archive is unpacked to: the beginning of its SHA-256.

    Raises:
        DataError: it is not there, or cannot be read.
    """
    try:
        facts = archive.stat()
        return _name_of(archive, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise DataError(
            f"the archive of the {role.name} cannot be read",
            got=f"{archive}: {error.strerror or error}",
            allowed=FORMS,
            action="correct the path, or put the archive back",
            path=role.field,
        ) from error


@lru_cache(maxsize=16)
def _name_of(archive: Path, inode: int, size: int, changed_ns: int) -> str:
    """Reads all of it, once as long as it is the same file with the same size and time."""
    return read_name(archive)


def read_name(archive: Path) -> str:
    """The same, read now, whatever is known of it.

    Raises:
        OSError: it cannot be read.
    """
    whole = hashlib.sha256()
    with archive.open("rb") as file:
        while piece := file.read(_PIECE):
            whole.update(piece)
    return whole.hexdigest()[:_NAME_LETTERS]


def no_module(archive: Path, got: str, role: Role) -> DataError:
    """The error of an archive that holds something else."""
    return DataError(
        f"the archive holds no {role.name}; nothing is kept of it",
        got=f"{archive}: {got}",
        allowed=f"{FORMS} (the name ends in {', '.join(ARCHIVES)})",
        action=f"pack the module from inside its folder: tar -C FOLDER -czf {archive.name} .",
        path=role.field,
    )
