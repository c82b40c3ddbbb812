"""A record that a disk has spoilt is taken as it was before its last change."""

from __future__ import annotations

import errno
import os

import pytest

from harness.errors import StorageError, UsageError
from harness.runs.paths import RunPaths
from harness.runs.record import mend_record, read_record, update_record, write_record
from tests.unit.runs_helpers import holding_child, make_run


@pytest.fixture
def paths(tmp_path):
    paths = make_run(tmp_path)
    update_record(paths, best={"step": 3})
    update_record(paths, best={"step": 6})
    return paths


@pytest.mark.parametrize("content", [b"", b"{", b"\x00\xff\x00", b"[1]"])
def test_it_is_taken_as_it_was_and_that_is_said(paths, content):
    paths.record.write_bytes(content)
    said: list[str] = []
    mend_record(paths, said.append)
    assert read_record(paths)["best"] == {"step": 3}
    (line,) = said
    assert str(paths.record) in line and "before its last change" in line
    update_record(paths, best={"step": 9})
    assert read_record(paths)["best"] == {"step": 9}


def test_a_whole_one_is_left_alone(paths):
    before = paths.record.stat()
    mend_record(paths, pytest.fail)
    assert paths.record.stat().st_ino == before.st_ino


def test_a_folder_without_a_record_is_none_of_its_business(tmp_path):
    mend_record(RunPaths(tmp_path), pytest.fail)


@pytest.mark.parametrize("before", [None, b"garbage"])
def test_with_nothing_to_take_the_error_stays(tmp_path, before):
    paths = make_run(tmp_path)
    paths.record.write_bytes(b"")
    if before is not None:
        paths.record_before.write_bytes(before)
    with pytest.raises(StorageError, match=r"run\.json: is no valid JSON"):
        mend_record(paths, pytest.fail)


def test_not_while_another_process_trains_the_run(paths):
    child = holding_child(paths)
    try:
        paths.record.write_bytes(b"")
        with pytest.raises(UsageError, match="another process"):
            mend_record(paths, pytest.fail)
        assert paths.record.read_bytes() == b""
    finally:
        child.kill()
        child.wait()


def test_without_hard_links_it_is_copied(paths, monkeypatch):
    def fail(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    write_record(paths, {"attempts": 5})
    paths.record.write_bytes(b"")
    mend_record(paths, lambda line: None)
    assert read_record(paths)["best"] == {"step": 6}


def test_the_copy_is_as_private_as_the_record(paths):
    assert paths.record_before.stat().st_mode == paths.record.stat().st_mode
