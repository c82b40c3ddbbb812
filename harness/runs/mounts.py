"""On which file system a path is, as far as Linux tells."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from harness.runs.storage import nearest_existing

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "mmfs", "beegfs", "ceph", "cephfs", "panfs", "wekafs"}
    | {"glusterfs", "orangefs", "pvfs2", "ocfs2", "gfs2", "cifs", "smb3", "afs", "vast"}
    | {"beegfs_nodev", "daos", "dvs", "quobyte", "moosefs", "juicefs"}
)
"""Kinds of file systems that several machines share."""
MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
"""Kinds whose files are in the memory of the machine."""


@dataclass(frozen=True)
class Mount:
    """One line of ``mountinfo``: where it is seen, its kind, and what is mounted there."""

    point: str
    kind: str
    source: str

    @property
    def is_network(self) -> bool:
        """Whether several machines share it, by its kind."""
        return self.kind.removeprefix("fuse.").lower() in NETWORK

    @property
    def is_memory(self) -> bool:
        """Whether its files are in memory."""
        return self.kind in MEMORY


def read_mounts(text: str) -> list[Mount]:
    """The mounts in the text of ``/proc/self/mountinfo`` (proc(5) has its fields)."""
    found = []
    for line in text.splitlines():
        front, sign, back = line.partition(" - ")
        fields, after = front.split(" "), back.split(" ")
        if sign and len(fields) > 4 and len(after) > 1:
            found.append(Mount(_plain(fields[4]), after[0], _plain(after[1])))
    return found


def _plain(text: str) -> str:
    """Spaces and the like are written as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def mount_of(path: Path, mounts: Collection[Mount]) -> Mount | None:
    """The mount that a path is on: the nearest one, and of several there the one on top."""
    best: Mount | None = None
    for mount in mounts:
        point = Path(mount.point)
        if (path == point or point in path.parents) and (
            best is None or len(mount.point) >= len(best.point)
        ):
            best = mount
    return best


def here(path: Path) -> tuple[Path, Mount | None]:
    """The nearest folder of ``path`` that exists, with links followed, and its mount."""
    place = Path(os.path.realpath(nearest_existing(path)))
    try:
        mounts = read_mounts(MOUNTS.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return place, None  # not Linux, or a container that hides it
    return place, mount_of(place, mounts)
