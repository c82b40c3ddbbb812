"""Staging beside a run and by hand: who copies, how much, what is said, what is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from staging_helpers import flip, make_set, records

from harness.data.packed import PackedIndex, open_packed
from harness.data.staging import StagedSet
from harness.worker.notices import Notice
from harness.worker.scratch import Place
from harness.worker.staging import Staging
from tests.unit.worker_staging_helpers import MB, memory

__all__ = ["memory"]  # a fixture, found by its name


class Begun:
    """A staging, and what it told so far."""

    def __init__(self, place: Place, sets: dict[str, list[PackedIndex]], **environment: str):
        self.told: list[Notice] = []
        self.staging = Staging(place, environment, 1, self.told.append)
        self.staging.begin(sets)

    def wait(self, holds: Callable[[], object], what: str) -> Begun:
        until = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < until, f"{what}: {self.told}"
            time.sleep(0.01)
        return self

    def facts(self, name: str = "data.train") -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [one["facts"] for one in self.told if one.get("set") == name]

        self.wait(found, "it has not been copied")
        return found()[0]


def test_all_is_copied_beside_and_stays_for_the_next(memory: Path, tmp_path: Path) -> None:
    train, test = make_set(tmp_path / "train"), make_set(tmp_path / "test", shards=2)
    same = open_packed(tmp_path / "train")
    place = Place(memory, "TMPDIR")
    begun = Begun(place, {"data.train": [train, same], "data.test": [test]})
    wanted = records(open_packed(train.root), np.arange(20))
    facts = begun.facts()
    assert (facts["files"], facts["of_files"]) == (8, 8)
    assert facts["bytes"] == facts["of_bytes"] == facts["copied_bytes"]
    assert begun.facts("data.test")["files"] == 5
    for index in (train, same):
        for shard in index.shards:
            (index.root / shard.file).unlink(missing_ok=True)
        assert records(index, np.arange(20)) == wanted
    begun.staging.close()
    shutil.rmtree(tmp_path / "train")
    again = Begun(place, {"data.train": [make_set(tmp_path / "train")]}, SLURMD_NODENAME="n7")
    again.wait(StagedSet(train, place.base).is_whole, "it is there")
    again.staging.close()
    assert [one for one in again.told if "facts" in one] == [], "there was nothing to copy"


def test_a_copy_that_was_half_purged_is_completed(memory: Path, tmp_path: Path) -> None:
    index = make_set(tmp_path / "set")
    place = Place(memory, "TMPDIR")
    begun = Begun(place, {"data.train": [index]})
    begun.facts()
    begun.staging.close()
    one = StagedSet(index, place.base)
    gone = list(index.shards[1:3])
    for shard in gone:
        (one.folder / shard.file).unlink()
    again = Begun(place, {"data.train": [index]})
    assert again.facts()["copied_bytes"] == sum(shard.bytes for shard in gone)
    again.staging.close()
    assert one.is_whole()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_ram_disk_takes_half_of_what_the_job_has_left(memory: Path, tmp_path: Path) -> None:
    index = make_set(tmp_path / "set", shards=20, each=1, size=2 * MB)
    limit = (resident() + 40 * MB) // MB
    begun = Begun(Place(memory, "TMPDIR"), {"data.train": [index]}, SLURM_MEM_PER_NODE=f"{limit}")
    facts = begun.facts()
    begun.staging.close()
    assert 2 * MB < facts["bytes"] <= 20 * MB
    assert facts["of_bytes"] > 40 * MB
    (text,) = [one["text"] for one in begun.told]
    assert "there is no room for the rest: /dev/shm is memory, and half of the" in text
    found = records(index, np.arange(20))
    assert all(found), "what has no copy is read from the set"
    # By hand it is all or nothing.
    environment = {**os.environ, "SLURM_MEM_PER_NODE": "50"}
    command = [sys.executable, "-m", "harness", "stage", str(index.root), "--to", str(memory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "there is no room for" in done.stderr
    assert "/dev/shm is memory" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_full_disk_costs_the_copy_and_not_the_run(tmp_path: Path) -> None:
    index = make_set(tmp_path / "set", shards=8, each=1, size=MB)
    disk = tmp_path / "disk"
    disk.mkdir()
    # A file system of its own, made of memory: as a disk it is as full as any.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], check=True)
    try:
        begun = Begun(Place(disk, "TMPDIR"), {"data.train": [index]})
        facts = begun.facts()
        begun.staging.close()
        assert 2 * MB < facts["bytes"] < 4 * MB
        assert "are free there, of which" in begun.told[0]["text"]
        assert all(records(index, np.arange(8)))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_is_in_a_folder_of_the_job_goes_with_it(memory: Path, tmp_path: Path) -> None:
    index = make_set(tmp_path / "set")
    place = Place(memory, "SLURM_TMPDIR", private=True)
    one, other = (Begun(place, {"data.train": [index]}) for _ in range(2))
    one.wait(StagedSet(index, place.base).is_whole, "it is not copied")
    one.staging.close()
    assert StagedSet(index, place.base).is_whole(), "another rank still uses it"
    other.staging.close()
    assert list(memory.iterdir()) == []
    assert all(records(index, np.arange(20))), "and from the set itself all the same"


def test_a_damaged_shard_of_the_set_is_named_and_the_others_are_staged(
    memory: Path, tmp_path: Path
) -> None:
    index = make_set(tmp_path / "set")
    flip(index.root / index.shards[3].file, 40)
    begun = Begun(Place(memory, "TMPDIR"), {"data.train": [index]})
    assert begun.facts()["files"] == 7
    begun.staging.close()
    assert "data-00003-of-00005.tfrecord is not what was packed" in begun.told[0]["text"]
    assert begun.told[1]["text"].endswith("; the rest is read from shared storage")


def test_a_place_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    index = make_set(tmp_path / "set")
    (tmp_path / "file").touch()
    for place, words in (
        (Place(tmp_path / "file", "cluster.stage"), "file: File exists"),
        (Place(tmp_path, "TMPDIR"), "is on the file system of the data themselves"),
    ):
        begun = Begun(place, {"data.train": [index]})
        begun.staging.close()
        (text,) = [one["text"] for one in begun.told]
        assert text.startswith("data.train is not staged: ")
        assert words in text
        assert "Errno" not in text
        assert index.near is None
