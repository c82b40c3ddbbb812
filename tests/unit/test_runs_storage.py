"""Storage that refuses: told apart, in words, with what to do next."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess

import pytest
from rights import mount_tmpfs
from runs_helpers import as_nobody, names_in, open_folder

from harness.errors import ExitCode, StorageError
from harness.runs.files import append_line, read_lines, write_atomic
from harness.runs.paths import RunPaths
from harness.runs.storage import (
    check_space,
    check_writable,
    nearest_existing,
    readable_bytes,
    storage_error,
)

__all__ = ["open_folder"]  # a fixture, found by its name


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 256 kB; mounting needs root."""
    place = tmp_path / "small"
    place.mkdir()
    mount_tmpfs(place, "size=256k,nr_inodes=64")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "not permitted"),
        (errno.EPERM, "not permitted"),
        (errno.ESTALE, "stale"),
        (errno.EXDEV, os.strerror(errno.EXDEV)),
    ],
)
def test_storage_errors_are_told_apart_and_say_what_to_do(tmp_path, number, words):
    error = storage_error(OSError(number, os.strerror(number)), tmp_path / "a")
    assert words in str(error) and str(tmp_path / "a") in str(error)
    assert error.problems[0].action
    assert error.exit_code == ExitCode.STORAGE == 5


def test_no_permission_names_the_owner_and_mode(tmp_path):
    tmp_path.chmod(0o500)
    text = str(storage_error(OSError(errno.EACCES, "x"), tmp_path / "run" / "deep"))
    assert f"{tmp_path} with owner" in text and "dr-x------" in text


@pytest.mark.parametrize(
    "call",
    [
        lambda root: RunPaths.create(root / "n" / "r", "private"),
        check_writable,
        lambda root: write_atomic(root / "a", "x"),
        lambda root: append_line(root / "a", "x"),
    ],
)
def test_a_user_without_rights_gets_a_storage_error(open_folder, call):
    open_folder.chmod(0o555)
    told = as_nobody(lambda: call(open_folder))
    assert re.match(r"StorageError: .*not permitted.*with owner .*, mode dr-xr-xr-x; next: ", told)


def test_a_full_disk_keeps_what_was_there(full_disk):
    kept, lines = full_disk / "kept", full_disk / "lines"
    write_atomic(kept, "old")
    append_line(lines, '{"a": 1}')
    (full_disk / "filler").write_bytes(b"x" * (256 * 1024 - 3 * 4096))
    with pytest.raises(StorageError, match="no space is left"):
        write_atomic(kept, "n" * 100_000)
    with pytest.raises(StorageError, match="no space is left"):
        append_line(lines, json.dumps({"long": "n" * 100_000}))
    assert kept.read_text() == "old"
    assert read_lines(lines) == ([{"a": 1}], 0)
    append_line(lines, '{"a": 2}')
    assert read_lines(lines) == ([{"a": 1}, {"a": 2}], 0)
    with pytest.raises(StorageError, match="almost full"):
        check_space(full_disk / "new" / "run", 100_000)
    (full_disk / "filler").write_bytes(b"x" * (256 * 1024 - 2 * 4096))
    with pytest.raises(StorageError, match="no space is left"):
        check_writable(full_disk)
    assert names_in(full_disk) == ["filler", "kept", "lines"]


def test_no_inodes_is_told_apart_from_no_space(full_disk):
    free = os.statvfs(full_disk).f_favail
    for number in range(free):
        (full_disk / str(number)).touch()
    with pytest.raises(StorageError, match="no inodes"):
        check_space(full_disk, 10)
    with pytest.raises(StorageError, match="no inodes"):
        write_atomic(full_disk / "a", "x")


def test_space_is_asked_of_the_nearest_folder_that_exists(tmp_path):
    assert nearest_existing(tmp_path / "a" / "b") == tmp_path
    check_space(tmp_path / "a" / "b", 1)
    with pytest.raises(StorageError, match="almost full"):
        check_space(tmp_path / "a" / "b", 1 << 60)


def test_writable_leaves_nothing_and_tells_the_owner(tmp_path):
    assert check_writable(tmp_path).st_uid == os.geteuid()
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (2.5e12, "2.5 TB"),
        (5e16, "50000.0 TB"),
    ],
)
def test_bytes_for_people(count, text):
    assert readable_bytes(count) == text
