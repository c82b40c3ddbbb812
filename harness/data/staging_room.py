"""How many bytes may be staged in a folder, and why not more.  Free of TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.runs.mounts import here
from harness.runs.storage import nearest_existing, readable_bytes

_KEPT_FREE = 10
"""A tenth of a file system stays free: others use it too, and full ones are slow."""
_OF_MEMORY = 2
"""Half of the memory that is left is for the training, which has yet to take what it needs."""


@dataclass(frozen=True)
class Room:
    """Bytes that may be written, and in words what decides that."""

    bytes: int
    why: str


def room_at(folder: Path, memory_left: Callable[[], int]) -> Room:
    """The room in a folder, which need not exist yet.

    Args:
        memory_left: bytes of memory that the job may still use on this node; asked only where the
            folder is on a RAM disk, whose files count as the memory of the job that wrote them.

    Raises:
        OSError: the file system does not tell.
    """
    facts = os.statvfs(nearest_existing(folder))
    free, kept = facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize // _KEPT_FREE
    room = Room(
        max(0, free - kept),
        f"{readable_bytes(free)} are free there, of which {readable_bytes(kept)} stay free",
    )
    _, mount = here(folder)
    if mount is None or not mount.is_memory:
        return room
    left = memory_left()
    if left // _OF_MEMORY >= room.bytes:
        return room
    return Room(
        left // _OF_MEMORY,
        f"{mount.point} is memory, and half of the {readable_bytes(left)} that the job has left "
        "is for the training",
    )
