"""Copies of packed sets on a node: who may make and remove them, and room."""

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

import pytest
from staging_helpers import make_set

from harness.data.packed import open_packed
from harness.data.staging import StagedSet, remove_unused, staged_folder
from harness.data.staging_room import room_at
from harness.errors import StorageError
from harness.runs.own import locked, own_folder
from tests.unit.staged_set_helpers import copy_all, packed, staged

__all__ = ["packed", "staged"]  # fixtures, found by their names


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
