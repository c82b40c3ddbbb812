"""What the handle of a SavedModel names on the disks of this machine."""

from __future__ import annotations

import re
from pathlib import Path

ARCHIVES = (".tar.gz", ".tgz", ".tar")
"""Endings of the names of archives, as TensorFlow Hub goes by them."""
FILE_URL = "file://"
_HEADS = (FILE_URL, "file:", "hub:")
_WITH_PATH = (*_HEADS, "model:", "run:")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def split_handle(text: str) -> tuple[str, str | None]:
    """(what stands before the path, the path); the path is None where a handle has none.

    What follows ``file://`` up to the next slash is the name of a machine, and here that is empty.
    """
    if _SCHEME.match(text) is None:
        return "", text
    head = next((one for one in _WITH_PATH if text.startswith(one)), None)
    if head is None or len(text) == len(head):
        return "", None
    path = text[len(head) :]
    return ("", None) if head == FILE_URL and path[0] not in "/$~" else (head, path)


def module_path(handle: str) -> Path | None:
    """PATH of ``hub:PATH``, ``file:PATH``, ``file:///PATH`` or a plain path; None of others."""
    head, path = split_handle(handle)
    return Path(path) if path is not None and head in ("", *_HEADS) else None


def archive_of(handle: str) -> Path | None:
    """The archive that a handle names; None where it names anything else."""
    path = module_path(handle)
    if path is None or not path.name.lower().endswith(ARCHIVES) or path.is_dir():
        return None
    return path
