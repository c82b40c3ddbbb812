"""Copies of packed sets on a node: whole or not at all, ours alone, and never believed blindly."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from staging_helpers import flip, make_set, records

from harness.data import packed_read
from harness.data.nearby import Nearby, Room
from harness.data.packed import INDEX, PackedIndex, open_packed
from harness.data.packed_read import Damaged, Piece, read_records
from harness.data.staging import StagedSet, Stopped, remove_unused, staged_folder
from harness.data.staging_room import room_at
from harness.errors import DataError, StorageError
from harness.runs.own import locked, own_folder

EVERY = np.arange(20)


@pytest.fixture
def packed(tmp_path: Path) -> PackedIndex:
    return make_set(tmp_path / "shared" / "set")


@pytest.fixture
def staged(packed: PackedIndex, tmp_path: Path) -> StagedSet:
    """Nothing is copied yet."""
    one = StagedSet(packed, staged_folder(tmp_path / "scratch"))
    one.make()
    return one


def copy_all(one: StagedSet) -> StagedSet:
    for item in one.missing():
        one.copy(item)
    one.finish()
    return one


def read_near(one: StagedSet) -> tuple[list[bytes], list[tuple[str, str]]]:
    """All records by way of the copies, and what was told of these."""
    index, told = open_packed(one.index.root), []
    index.near = Nearby(one.folder, lambda name, why: told.append((name, why)))
    return records(index, EVERY), told


def test_a_copy_is_a_packed_set_of_its_own_that_nobody_else_reads(staged: StagedSet) -> None:
    assert [item.name for item in staged.missing()][:2] == [
        "offsets.bin",
        "data-00000-of-00005.tfrecord",
    ]
    before = os.umask(0)
    try:
        copy_all(staged)
    finally:
        os.umask(before)
    assert staged.is_whole()
    assert records(open_packed(staged.folder), EVERY) == records(staged.index, EVERY)
    names = {path.name for path in staged.folder.iterdir()}
    assert names == {item.name for item in staged.items} | {INDEX}
    assert {stat.S_IMODE(p.stat().st_mode) for p in staged.folder.iterdir()} == {0o600}
    for folder in (staged.folder, staged.base, staged.base.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_copied_is_read_and_the_rest_is_not_missed(staged: StagedSet) -> None:
    wanted = records(staged.index, EVERY)
    for item in staged.missing()[:3]:
        staged.copy(item)
    # Two shards have a copy: without them in the set, only these can have been read.
    for shard in staged.index.shards[:2]:
        (staged.index.root / shard.file).rename(staged.index.root / f"{shard.file}.away")
    index = staged.index
    index.near = Nearby(staged.folder, lambda name, why: pytest.fail(f"{name} {why}"))
    assert records(index, EVERY) == wanted
    index.near = None
    assert records(index, EVERY) == [b""] * 8 + wanted[8:]


@pytest.mark.parametrize("where", ["record", "length", "checksum", "offsets", "cut", "gone"])
def test_a_damaged_copy_costs_no_example_and_is_read_no_more(staged: StagedSet, where: str) -> None:
    copy_all(staged)
    wanted = records(staged.index, EVERY)
    shard = staged.folder / staged.index.shards[2].file
    index, told = open_packed(staged.index.root), []
    index.near = Nearby(staged.folder, lambda name, why: told.append((name, why)))
    assert records(index, EVERY) == wanted
    assert told == []
    size = shard.stat().st_size
    if where == "offsets":
        flip(staged.folder / "offsets.bin", 9 * 8)
        named, words = "offsets.bin", "says else than the set"
    elif where == "cut":
        os.truncate(shard, size - 10)
        named, words = shard.name, "was cut"
    elif where == "gone":
        shard.unlink()
        named, words = shard.name, "has vanished"
    else:
        flip(shard, {"record": 100, "length": 2, "checksum": size - 2}[where])
        named, words = shard.name, "holds else than the set"
    assert records(index, EVERY) == wanted
    assert records(index, EVERY) == wanted
    assert told == [(named, words)], "once"
    assert not (staged.folder / named).exists(), "nobody else reads it either"


@pytest.mark.parametrize("at", range(0, 160, 3))
def test_any_flipped_bit_of_the_offsets_is_found(staged: StagedSet, at: int) -> None:
    copy_all(staged)
    wanted = records(staged.index, EVERY)
    flip(staged.folder / "offsets.bin", at)
    found, told = read_near(staged)
    assert found == wanted
    assert [name for name, _ in told] == ["offsets.bin"]


def test_what_is_damaged_in_the_set_itself_stays_so(staged: StagedSet) -> None:
    """A copy made before still holds it; without one the set has the last word."""
    flip(staged.index.root / staged.index.shards[1].file, 100)
    index, told = staged.index, []
    index.near = Nearby(staged.folder, lambda name, why: told.append(name))
    with pytest.raises(Damaged, match="wrong checksum"):
        Piece(index, 4, 1).record(0)
    assert told == []


def test_a_file_that_is_not_what_was_packed_is_not_copied(staged: StagedSet) -> None:
    item = staged.items[3]
    flip(staged.index.root / item.name, 50)
    with pytest.raises(DataError, match=f"{item.name} is not what was packed") as caught:
        staged.copy(item)
    assert caught.value.exit_code == 4
    (staged.index.root / item.name).unlink()
    with pytest.raises(DataError, match="cannot be read, got No such file"):
        staged.copy(item)
    assert list(staged.folder.iterdir()) == []


def test_a_copy_that_was_changed_is_found_by_its_checksum(staged: StagedSet) -> None:
    copy_all(staged)
    flip(staged.folder / staged.items[2].name, 7)
    assert [item for item in staged.items if staged.drop_damaged(item)] == [staged.items[2]]
    assert staged.missing() == [staged.items[2]]
    assert not staged.is_whole()


def test_whoever_is_told_to_stop_leaves_nothing(staged: StagedSet) -> None:
    with pytest.raises(Stopped):
        staged.copy(staged.items[1], lambda: True)
    assert list(staged.folder.iterdir()) == []


def test_an_index_that_has_changed_is_not_taken_over(staged: StagedSet) -> None:
    other = make_set(staged.index.root.parent / "other", shards=6)
    (staged.index.root / INDEX).write_bytes((other.root / INDEX).read_bytes())
    with pytest.raises(DataError, match="has changed"):
        copy_all(staged)
    assert not (staged.folder / INDEX).exists()


KILLED = """
import sys
from pathlib import Path
from harness.data.packed import open_packed
from harness.data.staging import StagedSet
one = StagedSet(open_packed(sys.argv[1]), Path(sys.argv[2]))
one.make()
with one.using(), one.copying() as held:
    assert held
    print("begins", flush=True)
    for item in one.missing():
        one.copy(item)
    one.finish()
"""


def test_a_process_killed_at_any_moment_leaves_whole_files_only(tmp_path: Path) -> None:
    index = make_set(tmp_path / "set", shards=12, each=2, size=3 << 20)
    one = StagedSet(index, staged_folder(tmp_path / "scratch"))
    kept, leftovers = 0, 0
    for wait_files in (0, 1, 3, 5):
        command = [sys.executable, "-c", KILLED, str(index.root), str(one.base)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            until = time.monotonic() + 60
            while len(list(one.folder.glob("data-*"))) < wait_files or not list(
                one.folder.glob(".data-*.tmp")
            ):
                assert time.monotonic() < until, "it copies nothing"
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -9
        there = [item for item in one.items if item not in one.missing()]
        assert not [item.name for item in there if one.drop_damaged(item)]
        assert len(there) >= kept, "what was copied before is not copied again"
        kept, leftovers = len(there), leftovers + len(list(one.folder.glob(".*.tmp")))
        assert not one.is_whole()
    assert leftovers > 0, "none was killed in the midst of a file"
    before = {p.name: p.stat().st_ino for p in one.folder.glob("data-*")}
    with one.copying() as held:
        assert held, "the lock has gone with its holder"
        one.sweep()
        copy_all(one)
    after = {p.name: p.stat().st_ino for p in one.folder.glob("data-*")}
    assert before.items() <= after.items()
    assert open_packed(one.folder).digest == index.digest
    assert not list(one.folder.glob(".*"))


def test_one_copies_at_a_time_and_what_is_used_stays(staged: StagedSet) -> None:
    same = StagedSet(staged.index, staged.base)
    with staged.copying() as first, same.copying() as second:
        assert (first, second) == (True, False)
    with same.copying() as second:
        assert second
    copy_all(staged)
    with staged.using(), same.using():
        assert not same.remove()
    assert staged.is_whole()
    assert staged.remove()
    assert list(staged.base.iterdir()) == []


def test_a_set_that_is_just_being_removed_is_waited_for(staged: StagedSet) -> None:
    copy_all(staged)
    lock = staged.base / f"{staged.key}.in-use"
    held, over = threading.Event(), threading.Event()

    def remove() -> None:
        with locked(lock, fcntl.LOCK_EX):
            held.set()
            over.wait(10)
            shutil.rmtree(staged.folder)

    remover = threading.Thread(target=remove)
    remover.start()
    held.wait(10)
    threading.Timer(0.3, over.set).start()
    with staged.using():
        assert over.is_set()
        assert not staged.is_whole()
        copy_all(staged)
        assert not staged.remove()
    remover.join()
    assert staged.is_whole()


def test_a_lock_whose_file_was_removed_meanwhile_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.in-use"
    with locked(path, fcntl.LOCK_EX) as first:
        assert first
        path.unlink()
        with locked(path, fcntl.LOCK_EX) as second:
            assert second, "a new file"
            with locked(path, fcntl.LOCK_EX) as third:
                assert not third


def test_old_sets_are_removed_and_younger_ones_only_for_room(tmp_path: Path) -> None:
    base = staged_folder(tmp_path)
    made = {}
    for name, days in (("ancient", 30), ("old", 8), ("young", 2), ("new", 0)):
        made[name] = one = StagedSet(make_set(tmp_path / name), base)
        one.make()
        with one.using():
            copy_all(one)
        used = time.time() - days * 86_400
        os.utime(base / f"{one.key}.in-use", (used, used))
    keys = {name: one.key for name, one in made.items()}
    with made["ancient"].using():
        when = time.time() - 30 * 86_400  # in use all that time
        os.utime(base / f"{keys['ancient']}.in-use", (when, when))
        assert remove_unused(base, keys["new"]) == [keys["old"]]
        need = made["young"].bytes - 1
        assert remove_unused(base, keys["new"], need) == [keys["young"]]
        assert remove_unused(base, keys["new"], 1 << 40) == []
    assert {p.name for p in base.iterdir() if p.is_dir()} == {keys["ancient"], keys["new"]}
    assert made["new"].is_whole()
    assert made["ancient"].is_whole()


def test_a_folder_that_somebody_else_made_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o777)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="not a folder of your own"):
        own_folder(link)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    own_folder(tmp_path / "open")
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o700
    if os.geteuid() != 0:
        return  # a folder of another user cannot be made
    os.chown(tmp_path / "open", 12345, -1)
    with pytest.raises(StorageError, match="owner 12345"):
        own_folder(tmp_path / "open")


def test_room_is_what_the_disk_or_the_memory_leaves(tmp_path: Path) -> None:
    facts = os.statvfs(tmp_path)
    room = room_at(tmp_path / "not" / "there", lambda: pytest.fail("it is no memory"))
    free, kept = facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize // 10
    assert room.bytes == pytest.approx(max(0, free - kept), abs=1 << 30)
    assert "are free there" in room.why
    memory = room_at(Path("/dev/shm"), lambda: 1000)
    assert memory.bytes == 500
    assert memory.why.startswith("/dev/shm is memory, and half of the 1.0 kB")
    assert "are free there" in room_at(Path("/dev/shm"), lambda: 1 << 60).why


def test_records_are_read_into_the_same_memory(packed: PackedIndex) -> None:
    room = Room()
    whole = [bytes(record) for record in read_records(packed, EVERY, room)]
    held = room.of(1)
    assert [bytes(record) for record in read_records(packed, EVERY[::3], room)] == whole[::3]
    assert room.of(1).base is held.base, "it was large enough"


def test_what_is_long_is_read_in_parts(
    packed: PackedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = records(packed, EVERY)
    monkeypatch.setattr(packed_read, "_MOST_BYTES", 700)  # two records of a shard of four
    room = Room()
    assert [bytes(record) for record in read_records(packed, EVERY, room)] == whole
    assert [bytes(record) for record in read_records(packed, EVERY[1::3], room)] == whole[1::3]
    assert len(room.of(1).base) < 3 * 316
