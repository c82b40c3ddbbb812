"""How much memory a job may still use: what the machine, its cgroups and SLURM leave of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

_NO_LIMIT = 1 << 60
"""cgroup v1 writes its largest number, about 2^63, where there is no limit."""
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def memory_left(
    environment: Mapping[str, str],
    processes: int = 1,
    proc: Path = _PROC,
    cgroups: Path = _CGROUPS,
) -> int:
    """Bytes that the processes of a job may still take on this node, the least that anybody says.

    Memory that the kernel gives back when it is needed (its cache of files on disk) counts as
    free; files on a RAM disk do not, since nothing gives them back.

    Args:
        processes: of the job on this node, each taken to be as large as this one, where only
            SLURM tells a limit and nobody what is used of it.

    Raises:
        OSError: not even the machine's own memory is told.
    """
    found = [_available(proc), *_left_in_cgroups(proc, cgroups)]
    limit = _slurm_limit(environment)
    if limit is not None:
        found.append(limit - processes * _resident(proc))
    return max(0, min(found))


def _available(proc: Path) -> int:
    return _table(proc / "meminfo")["MemAvailable:"] * 1024


def _resident(proc: Path) -> int:
    """Of this process; statm(5) counts pages."""
    return int((proc / "self" / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _slurm_limit(environment: Mapping[str, str]) -> int | None:
    """What the job was given on this node; SLURM counts in MiB, and 0 is all that there is."""
    node = environment.get("SLURM_MEM_PER_NODE", "")
    if node.isdecimal():
        return int(node) << 20 or None
    core = environment.get("SLURM_MEM_PER_CPU", "")
    cores = environment.get("SLURM_CPUS_ON_NODE", "")
    if core.isdecimal() and cores.isdecimal():
        return int(core) * int(cores) << 20 or None
    return None


def _left_in_cgroups(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each cgroup around this process leaves of its limit, in either version."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _around(cgroups, path):
                yield from _left(folder, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            for folder in _around(cgroups / "memory", path):
                yield from _left(
                    folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
                )


def _around(top: Path, path: str) -> Iterator[Path]:
    # In a container the path may be that of the host, of which only the top is seen here.
    inside = PurePosixPath(path.lstrip("/"))
    yield from (top / part for part in (inside, *inside.parents))


def _left(folder: Path, limit: str, used: str, reclaimable: str) -> Iterator[int]:
    try:
        text = (folder / limit).read_text().strip()
        if text == "max" or int(text) >= _NO_LIMIT:
            return
        cache = _table(folder / "memory.stat").get(reclaimable, 0)
        yield int(text) - int((folder / used).read_text()) + cache
    except OSError:
        return  # not there, or not for us to see


def _table(path: Path) -> dict[str, int]:
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}
