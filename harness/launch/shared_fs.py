"""Whether the nodes of a job see the run directory: what the kind of its file system tells.

Nobody can know that from here without starting a job there, so this is a best effort: some
kinds are network file systems, some live in one machine's memory, and of the rest, ext4 or an
overlay for example, it cannot be told.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from harness.launch.preflight_report import Report
from harness.runs.mounts import Mount, here
from harness.spec.base import show

Verdict = Literal["shared", "local", "unknown"]

# Every node has these for itself, whatever they are on, unless it is a network file system.
_OWN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 - looked at, not used


def verdict(place: Path, mount: Mount | None) -> Verdict:
    """What the kind of a file system tells."""
    if mount is not None and mount.is_network:
        return "shared"
    own = any(place.is_relative_to(folder) for folder in _OWN_FOLDERS)
    return "local" if own or (mount is not None and mount.is_memory) else "unknown"


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
