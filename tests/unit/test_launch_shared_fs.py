"""Whether the nodes of a job see a folder, by the kind of its file system."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from preflight_helpers import report

from harness.launch.preflight_report import Report
from harness.launch.shared_fs import judge, verdict
from harness.runs.mounts import Mount, mount_of, read_mounts

MOUNTINFO = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24683656k
40 27 0:40 / /homes rw,relatime shared:1 - nfs4 storage:/export/home rw,vers=4.2
41 27 0:41 / /scratch rw,relatime shared:2 master:3 - lustre 10.0.0.1@o2ib:/scratch rw
42 27 0:42 / /with\\040space rw - fuse.glusterfs vol rw
43 27 0:43 / /mem rw - ramfs none rw
44 40 0:44 / /homes rw - autofs map rw
45 40 0:45 / /homes rw - nfs storage2:/home rw
not a line of it
"""


@pytest.mark.parametrize(
    ("path", "kind", "wanted"),
    [
        ("/scratch/a/b", "lustre", "shared"),
        ("/scratchy", "ext4", "unknown"),
        ("/homes/a/b", "nfs", "shared"),
        ("/with space/x", "fuse.glusterfs", "shared"),
        ("/mem/x", "ramfs", "local"),
        ("/dev/shm/x", "tmpfs", "local"),
        ("/tmp/x", "ext4", "local"),
        ("/data", "ext4", "unknown"),
    ],
)
def test_file_systems(path: str, kind: str, wanted: str) -> None:
    mount = mount_of(Path(path), read_mounts(MOUNTINFO))
    assert mount is not None
    assert (mount.kind, verdict(Path(path), mount)) == (kind, wanted)


def told(path: str, mount: Mount | None, hosts: set[str]) -> Report:
    own = report()
    judge(own, Path(path), Path(path), mount, hosts, "login1.cluster.example")
    return own


def test_a_place_of_this_machine_is_refused_only_if_others_shall_see_it() -> None:
    memory = Mount("/dev/shm", "tmpfs", "tmpfs")
    own = told("/dev/shm/runs", memory, {"g1", "g2"})
    assert str(own.wrong[0]) == (
        "the run directory is on this machine alone, the job's nodes do not see it, got "
        "'/dev/shm/runs' (tmpfs at /dev/shm), allowed: a folder on a file system that all nodes "
        "share; next: choose another place with --run-dir or --runs-root"
    )
    assert not told("/dev/shm/runs", memory, {"login1"}).wrong
    disk = told("/data/runs", Mount("/", "ext4", "/dev/vda"), {"g1"})
    assert not disk.wrong
    assert "cannot be told from here" in disk.notes[0]
    shared = told("/s/runs", Mount("/s", "lustre", "x"), {"g1"})
    assert not shared.wrong
    assert not shared.notes
    assert "unknown kind" in told("/data", None, {"g1"}).notes[0]
    assert socket.gethostname()
