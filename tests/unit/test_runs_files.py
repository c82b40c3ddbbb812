"""Files of a run: whole or not at all, modes whatever the umask, storage errors in words."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rights import needs_root
from runs_helpers import NOBODY, as_nobody, names_in, open_folder

from harness.errors import StorageError
from harness.runs import files
from harness.runs.files import (
    append_line,
    make_dir,
    read_json,
    read_lines,
    sha256_file,
    tail_lines,
    to_json,
    to_json_line,
    write_atomic,
)
from harness.runs.paths import RunPaths

__all__ = ["open_folder"]  # a fixture, found by its name


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o077, 0o777], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize(
    ("access", "folder", "file"), [("private", 0o700, 0o600), ("group", 0o2770, 0o660)]
)
def test_modes_do_not_depend_on_the_umask(tmp_path, umask, access, folder, file):
    paths = RunPaths.create(tmp_path / "name" / "run", access)
    write_atomic(paths.spec, "x")
    append_line(paths.attempts, "{}")
    assert {mode(p) for p in (paths.root, paths.root.parent, paths.checkpoints, paths.slurm)} == {
        folder
    }
    assert {mode(p) for p in (paths.spec, paths.attempts)} == {file}


def test_an_existing_wide_open_folder_becomes_private(tmp_path):
    tmp_path.chmod(0o755)
    make_dir(tmp_path, "private")
    assert mode(tmp_path) == 0o700


@needs_root
def test_group_and_setgid_of_the_project_are_kept(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    os.chown(project, 0, 4321)
    project.chmod(0o2775)
    paths = RunPaths.create(project / "name" / "run", "group")
    write_atomic(paths.record, "{}")
    append_line(paths.metrics, "{}")
    made = (paths.root.parent, paths.root, paths.checkpoints, paths.record, paths.metrics)
    assert {p.stat().st_gid for p in made} == {4321}
    assert mode(paths.checkpoints) == 0o2770


@needs_root
def test_a_private_run_in_project_space_keeps_the_group_for_the_quota(tmp_path):
    os.chown(tmp_path, 0, 4321)
    tmp_path.chmod(0o2770)
    paths = RunPaths.create(tmp_path / "name" / "run", "private")
    write_atomic(paths.record, "{}")
    assert (mode(paths.root), mode(paths.record)) == (0o2700, 0o600)
    assert paths.record.stat().st_gid == 4321
    # The folder of the name is shared: colleagues have runs of the same name.
    assert mode(paths.root.parent) == 0o2770


@needs_root
def test_a_group_folder_takes_the_parents_group_without_setgid_too(tmp_path):
    os.chown(tmp_path, 0, 4321)
    assert make_dir(tmp_path / "run", "group").stat().st_gid == 4321


@needs_root
def test_setgid_that_the_kernel_drops_is_an_error(open_folder):
    # A setgid folder of a group the user is not in: the kernel takes the bit off without a word.
    os.chown(open_folder, NOBODY, 4321)
    open_folder.chmod(0o2777)
    told = as_nobody(lambda: make_dir(open_folder / "run", "group"))
    assert told.startswith("StorageError") and "the setgid bit cannot be set" in told


def test_a_replaced_file_is_whole_and_leaves_no_temporary(tmp_path):
    path = tmp_path / "a.json"
    write_atomic(path, "first")
    write_atomic(path, b"second")
    assert path.read_text() == "second"
    assert names_in(tmp_path) == ["a.json"]


def test_what_was_there_stays_when_the_write_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomic(path, "first")
    monkeypatch.setattr(
        files.os, "fsync", lambda _fd: (_ for _ in ()).throw(OSError(errno.EIO, "io"))
    )
    with pytest.raises(StorageError, match="I/O error"):
        write_atomic(path, "second")
    assert path.read_text() == "first"
    assert names_in(tmp_path) == ["a.json"]


def test_an_interrupt_in_a_write_leaves_no_temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_write_all", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", "x")
    assert names_in(tmp_path) == []


def test_durability_file_before_rename_before_folder(tmp_path, monkeypatch):
    seen = []
    sync, rename = os.fsync, Path.replace
    monkeypatch.setattr(
        files.os,
        "fsync",
        lambda fd: (
            seen.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"),
            sync(fd),
        ),
    )
    monkeypatch.setattr(Path, "replace", lambda a, b: (seen.append("rename"), rename(a, b)))
    write_atomic(tmp_path / "a", "x")
    assert seen == ["file", "rename", "folder"]
    seen.clear()
    write_atomic(tmp_path / "a", "x", sync=False)
    assert seen == ["rename"]


def test_a_torn_line_stays_alone(tmp_path):
    path = tmp_path / "a.jsonl"
    append_line(path, '{"a": 1}')
    with path.open("a") as stream:
        stream.write('{"a": 2, "b"')
    append_line(path, '{"a": 3}')
    assert read_lines(path) == ([{"a": 1}, {"a": 3}], 1)


def test_lines_of_a_file_that_is_not_there(tmp_path):
    assert read_lines(tmp_path / "none") == ([], 0)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=5))
def test_lines_come_back_as_they_were(tmp_path_factory, objects):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    for value in objects:
        append_line(path, to_json_line(value), sync=False)
    assert read_lines(path) == (objects, 0)


@given(json_values)
def test_json_comes_back_as_it_was(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_atomic(path, to_json(value), sync=False)
    assert read_json(path) == value


@pytest.mark.parametrize("raw", [b"", b'{"a": ', b"\xff\xfe\x00", b"\0" * 64])
def test_broken_json_says_so(tmp_path, raw):
    path = tmp_path / "a.json"
    path.write_bytes(raw)
    with pytest.raises(StorageError, match="is no valid JSON"):
        read_json(path)


def test_missing_json_is_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "a.json")


def test_sha256_of_more_than_one_piece(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"a" * (1 << 20) + b"b")
    told = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
    assert sha256_file(path) == told.split()[0]


@pytest.mark.parametrize(
    ("content", "count", "limit", "wanted"),
    [
        (b"", 3, 100, []),
        (b"one\ntwo\nthree\n", 2, 100, ["two", "three"]),
        (b"one\ntwo", 5, 100, ["one", "two"]),
        (b"one\n\n  \n two \n\n", 2, 100, ["one", "two"]),
        (b"one\r\ntwo\r\n", 2, 100, ["one", "two"]),
        (b"0123456789\nend\n", 2, 8, ["789", "end"]),
        ("\u00fcber\n".encode(), 1, 5, ["\ufffdber"]),  # cut in the midst of a letter
        (b"\xff\xfe broken\n", 1, 100, ["\ufffd\ufffd broken"]),
        (b"one\ntwo\n", 1, 3, ["wo"]),
    ],
)
def test_the_last_lines_of_a_log(tmp_path, content, count, limit, wanted):
    path = tmp_path / "log"
    path.write_bytes(content)
    assert tail_lines(path, count, limit) == wanted


@pytest.mark.parametrize(
    ("begin", "wanted"), [(0, ["old", "new"]), (4, ["new"]), (8, []), (99, [])]
)
def test_what_a_log_held_before_can_be_left_out(tmp_path, begin, wanted):
    path = tmp_path / "log"
    path.write_bytes(b"old\nnew\n")
    assert tail_lines(path, 5, begin=begin) == wanted


def test_a_log_that_is_not_there_has_no_last_lines(tmp_path):
    assert tail_lines(tmp_path / "none", 5) == []
    assert tail_lines(tmp_path, 5) == []


def test_of_a_long_log_only_its_end_is_read(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(1 << 33)
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe last\n")
    assert tail_lines(path, 1) == ["the last"]
