"""What is fetched is whole or not there at all: odd archives, interruptions, leftovers."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest

from harness.errors import DataError, StorageError
from harness.model.fetch import Fetched, fetch
from harness.model.remote import Shelves, module_name
from tests.https_here import World, archive
from tests.unit.fetch_helpers import HANDLE, WHOLE, hub, module, quiet, served, shelves
from tests.unit.rights import mount_tmpfs

__all__ = ["hub", "served", "shelves"]  # fixtures, found by their names


def odd_archive(kind: bytes, name: str = "saved_model.pb") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>please log in</html>", "no whole .tar.gz"),
        (b"", "no whole .tar.gz"),
        (WHOLE[: len(WHOLE) // 2], "no whole .tar.gz"),
        (WHOLE[:500] + b"?" + WHOLE[501:], "no whole .tar.gz"),
        (archive({"module/saved_model.pb": b"x"}), "without saved_model.pb, of module"),
        (archive({"../saved_model.pb": b"x"}), "no name inside a module"),
        (archive({"/tmp/saved_model.pb": b"x"}), "no name inside a module"),
        (archive({"a/../../saved_model.pb": b"x"}), "no name inside a module"),
        (archive({"new\nline": b"x"}), "no name inside a module"),
        (odd_archive(tarfile.SYMTYPE), "neither a file nor a folder"),
        (odd_archive(tarfile.LNKTYPE), "neither a file nor a folder"),
        (odd_archive(tarfile.FIFOTYPE), "neither a file nor a folder"),
        (odd_archive(tarfile.CHRTYPE), "neither a file nor a folder"),
    ],
)
def test_what_is_no_module_is_refused_and_not_kept(
    content: bytes, words: str, hub: World, shelves: Shelves
) -> None:
    hub.files[f"{HANDLE.removeprefix('https://')}?tf-hub-format=compressed"] = content
    with pytest.raises(DataError, match="nothing is kept of it") as caught:
        fetch(module(shelves), quiet)
    assert words in str(caught.value.problems[0].got)
    assert list(shelves.modules.iterdir()) == []
    assert not list(shelves.modules.parent.rglob("saved_model.pb"))


def test_what_is_interrupted_leaves_nothing(hub: World, shelves: Shelves) -> None:
    def leave(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(module(shelves), leave)
    assert list(shelves.modules.iterdir()) == []
    assert fetch(module(shelves), quiet).fetched


def test_two_at_once_ask_once(hub: World, shelves: Shelves) -> None:
    hub.slow_s = 0.5
    said: list[str] = []
    done: list[Fetched] = []
    threads = [
        threading.Thread(target=lambda: done.append(fetch(module(shelves), said.append)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.fetched for one in done) == [False, True]
    assert len(hub.asked) == 1
    assert any("another process fetches" in text for text in said)


def test_leftovers_of_the_killed_go_once_nobody_can_be_at_them(
    hub: World, shelves: Shelves
) -> None:
    shelves.modules.mkdir(mode=0o700)
    name = module_name(HANDLE)
    old, new = (shelves.modules / f".{name}.{mark}.tmp" for mark in ("0123abcd", "4567abcd"))
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    fetch(module(shelves), quiet)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_of_something_else_is_not_taken_for_the_module(shelves: Shelves) -> None:
    folder = shelves.modules / module_name(HANDLE)
    (folder / "module").mkdir(parents=True)
    with pytest.raises(DataError, match="is no SavedModel"):
        fetch(module(shelves), quiet)


def test_an_empty_folder_is_none(hub: World, shelves: Shelves) -> None:
    (shelves.modules / module_name(HANDLE)).mkdir(parents=True)
    assert fetch(module(shelves), quiet).fetched


def test_a_full_disk_leaves_nothing(hub: World, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    mount_tmpfs(tmp_path / "small", "size=64k,mode=0700")
    try:
        wanted = module(Shelves.of({}, tmp_path / "small"))
        with pytest.raises(StorageError, match="No space left"):
            fetch(wanted, quiet)
        assert list(wanted.path.parent.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)


def test_a_cache_that_cannot_be_written(hub: World, shelves: Shelves) -> None:
    shelves.modules.write_text("a file stands where the folder belongs")
    with pytest.raises(StorageError):
        fetch(module(shelves), quiet)
