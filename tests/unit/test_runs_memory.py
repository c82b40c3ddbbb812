"""How much memory a job has left: the least that the machine, its cgroups and SLURM leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.runs.memory import memory_left
from harness.runs.mounts import here

MIB = 1 << 20
PAGES = 5000
RESIDENT = PAGES * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A machine with 1,000 MiB to give, seen by a process of some pages in no cgroup."""
    self = tmp_path / "proc" / "self"
    self.mkdir(parents=True)
    (self.parent / "meminfo").write_text("MemTotal: 9999999 kB\nMemAvailable: 1024000 kB\n")
    (self / "statm").write_text(f"99999 {PAGES} 1 1 0 1 0\n")
    return tmp_path


def left(node: Path, processes: int = 1, **environment: str) -> int:
    return memory_left(environment, processes, node / "proc", node / "cgroup")


def group(folder: Path, **files: int | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / f"memory.{name}").write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("environment", "processes", "wanted"),
    [
        ({}, 1, 1000 * MIB),
        ({"SLURM_MEM_PER_NODE": "600"}, 1, 600 * MIB - RESIDENT),
        ({"SLURM_MEM_PER_NODE": "600"}, 4, 600 * MIB - 4 * RESIDENT),
        ({"SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_ON_NODE": "3"}, 1, 300 * MIB - RESIDENT),
        ({"SLURM_MEM_PER_CPU": "100"}, 1, 1000 * MIB),
        ({"SLURM_MEM_PER_NODE": "0"}, 1, 1000 * MIB),
        ({"SLURM_MEM_PER_NODE": "5000"}, 1, 1000 * MIB),
        ({"SLURM_MEM_PER_NODE": "1"}, 1, 0),
    ],
)
def test_slurm_and_the_machine(
    node: Path, environment: dict[str, str], processes: int, wanted: int
) -> None:
    assert left(node, processes, **environment) == wanted


def test_cgroups_of_version_2_with_all_those_around(node: Path) -> None:
    (node / "proc/self/cgroup").write_text("0::/slurm/job_7/step_0\n")
    top = node / "cgroup"
    group(top / "slurm/job_7/step_0", max="max", current=1)
    group(
        top / "slurm/job_7",
        max=500 * MIB,
        current=300 * MIB,
        stat=f"anon {100 * MIB}\nshmem {150 * MIB}\ninactive_file {50 * MIB}",
    )
    assert left(node) == 250 * MIB, "the cache of files is given back, files in memory are not"
    group(top / "slurm", max=80 * MIB, current=70 * MIB, stat="")
    assert left(node) == 10 * MIB


def test_cgroups_of_version_1_and_a_path_that_only_the_host_knows(node: Path) -> None:
    (node / "proc/self/cgroup").write_text("5:cpu,memory:/docker/abc\n0::/docker/abc\n")
    top = node / "cgroup/memory"
    group(top, limit_in_bytes=400 * MIB, usage_in_bytes=150 * MIB, stat="total_inactive_file 0")
    assert left(node) == 250 * MIB
    group(top, limit_in_bytes=(1 << 63) - 4096)
    assert left(node) == 1000 * MIB


def test_this_machine_has_some() -> None:
    assert 0 < memory_left({}) < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_ram_disk_is_known_as_one() -> None:
    place, mount = here(Path("/dev/shm/not/there"))
    assert mount is not None
    assert (str(place), mount.is_memory, mount.is_network) == ("/dev/shm", True, False)
