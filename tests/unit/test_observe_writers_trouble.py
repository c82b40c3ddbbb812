"""Metric lines on disks that are full or cannot be written."""

from __future__ import annotations

import os

import pytest
from checkpoint_helpers import make_read_only, small_disk

from harness.errors import StorageError
from harness.observe import JsonlWriter
from harness.observe.appendfile import AppendFile
from harness.runs.paths import RunPaths
from tests.unit.writers_helpers import lines, paths, train

__all__ = ["paths"]  # a fixture, found by its name


def fill(path, writer) -> None:
    """Writes training lines until the disk is full."""
    (path / "filler").write_bytes(b"x" * 200_000)
    with pytest.raises(StorageError, match="no space is left"):
        train(writer, *range(1, 10_000))


def test_a_full_disk_is_raised_and_no_half_line_stays(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        paths = RunPaths.create(disk / "run", "private")
        writer = JsonlWriter(paths, 1)
        fill(disk, writer)
        written = len(lines(paths.metrics))
        assert written > 10
        with pytest.raises(StorageError, match="no space is left"):
            writer.rollback(3)
        assert len(lines(paths.metrics)) == written
        # The run may go on once there is room.
        (disk / "filler").unlink()
        writer.rollback(3)
        train(writer, 4)
        assert [line["step"] for line in lines(paths.metrics)] == [1, 2, 3, 4]


def test_a_read_only_disk_is_told_at_once(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        paths = RunPaths.create(disk / "run", "private")
        make_read_only(disk)
        with pytest.raises(StorageError, match="read-only"):
            JsonlWriter(paths, 1)


def test_a_piece_that_fits_only_in_part_is_taken_back(tmp_path, monkeypatch):
    file = AppendFile(tmp_path / "a")
    file.write(b"whole\n")
    really, calls = os.write, []

    def short(descriptor, data):
        calls.append(bytes(data))
        if len(calls) == 1:
            return really(descriptor, bytes(data)[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.observe.appendfile.os.write", short)
    with pytest.raises(StorageError, match="no space is left"):
        file.write(b"too long\n")
    monkeypatch.undo()
    file.write(b"next\n")
    assert (tmp_path / "a").read_bytes() == b"whole\nnext\n"
    assert calls == [b"too long\n", b" long\n"]


@pytest.mark.parametrize("call", ["fsync", "close"])
def test_an_error_that_only_syncing_or_closing_tells_is_raised(tmp_path, monkeypatch, call):
    file = AppendFile(tmp_path / "a")
    file.write(b"x")

    def full(descriptor):
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(f"harness.observe.appendfile.os.{call}", full)
    with pytest.raises(StorageError, match="quota"):
        {"fsync": file.sync, "close": file.close}[call]()
