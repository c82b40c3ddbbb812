"""Whether the nodes of a job see the run directory: what the kind of its file system tells.

Nobody can know that from here without starting a job there, so this is a best effort: some
kinds are network file systems, some live in one machine's memory, and of the rest, ext4 or an
overlay for example, it cannot be told.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.launch.preflight_report import Report
from harness.runs.storage import nearest_existing
from harness.spec.base import show

Verdict = Literal["shared", "local", "unknown"]

MOUNTS = Path("/proc/self/mountinfo")
_SHARED = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "mmfs", "beegfs", "ceph", "cephfs", "panfs", "wekafs"}
    | {"glusterfs", "orangefs", "pvfs2", "ocfs2", "gfs2", "cifs", "smb3", "afs", "vast"}
    | {"beegfs_nodev", "daos", "dvs", "quobyte", "moosefs", "juicefs"}
)
_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
# Every node has these for itself, whatever they are on, unless it is a network file system.
_OWN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 - looked at, not used


@dataclass(frozen=True)
class Mount:
    """One line of ``mountinfo``: where it is seen, its kind, and what is mounted there."""

    point: str
    kind: str
    source: str


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


def here(run_dir: Path) -> tuple[Path, Mount | None]:
    """The nearest folder of ``run_dir`` that exists, with links followed, and its mount."""
    place = Path(os.path.realpath(nearest_existing(run_dir)))
    try:
        mounts = read_mounts(MOUNTS.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return place, None  # not Linux, or a container that hides it
    return place, mount_of(place, mounts)


def verdict(place: Path, mount: Mount | None) -> Verdict:
    """What the kind of a file system tells."""
    kind = "" if mount is None else mount.kind.removeprefix("fuse.").lower()
    if kind in _SHARED:
        return "shared"
    own = any(place.is_relative_to(folder) for folder in _OWN_FOLDERS)
    return "local" if own or kind in _MEMORY else "unknown"


def check_shared(report: Report, run_dir: Path, hosts: Collection[str]) -> None:
    """Refuses a run directory that other nodes surely do not see.

    Args:
        hosts: names of the machines that the nodes are (``NodeHostName``).
    """
    place, mount = here(run_dir)
    judge(report, run_dir, place, mount, hosts, socket.gethostname())


def judge(
    report: Report,
    run_dir: Path,
    place: Path,
    mount: Mount | None,
    hosts: Collection[str],
    this: str,
) -> None:
    """As :func:`check_shared`, of given facts."""
    others = {host.partition(".")[0] for host in hosts} - {this.partition(".")[0]}
    found = verdict(place, mount)
    kind = "a file system of unknown kind" if mount is None else f"{mount.kind} at {mount.point}"
    if not others or found == "shared":
        return
    if found == "local":
        report.add(
            None,
            "the run directory is on this machine alone, the job's nodes do not see it",
            f"{show(str(run_dir), 200)} ({kind})",
            "a folder on a file system that all nodes share",
            "choose another place with --run-dir or --runs-root",
        )
        return
    report.note(
        f"whether the nodes see the run directory cannot be told from here ({place} is on {kind}; "
        "by its kind only a network file system is known to be shared)"
    )
