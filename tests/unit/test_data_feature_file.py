"""Rows of features read from their file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from harness.data.feature_file import FileChunk
from harness.data.feature_read import FeatureReader, Room, Taken
from harness.data.feature_store import BAD, GOOD, Chunk, Entry, Layout
from harness.errors import StorageError


def written(root: Path) -> Entry:
    """600 examples in three files; the feature of each is its position."""
    layout = Layout.of(600, (2, 3), "float16")
    entry = Entry(root, {"of": "rows"}, layout)
    entry.make()
    for number in entry.missing():
        first, last = layout.span(number)
        at = np.arange(first, last)
        features = np.broadcast_to(at[:, None, None], (len(at), 2, 3)).astype(np.float16)
        state = np.where(at % 5 == 0, BAD, GOOD).astype(np.uint8)
        entry.write(number, Chunk(features, state, at.astype(np.float32)))
    return entry


def test_rows_come_in_runs_alone_and_again(tmp_path: Path) -> None:
    chunk = written(tmp_path).opened(1)
    rows = np.array([0, 1, 2, 7, 7, 9, 10, 255])
    found = chunk.features_of(rows)
    assert (found.dtype, found.shape) == (np.float16, (8, 2, 3))
    np.testing.assert_array_equal(found[:, 1, 2], rows + 256)
    np.testing.assert_array_equal(chunk.state == BAD, np.arange(256, 512) % 5 == 0)
    np.testing.assert_array_equal(chunk.weight, np.arange(256, 512))


def test_a_file_that_becomes_shorter_is_an_error_and_not_the_end_of_the_process(
    tmp_path: Path,
) -> None:
    entry = written(tmp_path)
    chunk = entry.opened(0)
    os.truncate(entry.path_of(0), 100)
    with pytest.raises(OSError, match="become shorter"):
        chunk.features_of(np.array([200]))
    with pytest.raises(OSError, match="become shorter"):
        entry.opened(0)


def test_a_file_is_closed_once_nobody_reads_it(tmp_path: Path) -> None:
    entry = written(tmp_path)
    before = len([*Path("/proc/self/fd").iterdir()])
    chunks: list[FileChunk] = [entry.opened(number) for number in range(3)]
    assert len([*Path("/proc/self/fd").iterdir()]) == before + 3
    chunks.clear()
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_what_cannot_be_read_comes_from_elsewhere_or_is_an_error(tmp_path: Path) -> None:
    entry = written(tmp_path)
    asked: list[list[int]] = []

    def instead(positions: np.ndarray) -> Taken:
        asked.append(positions.tolist())
        features = np.full((len(positions), 2, 3), -1, np.float32) * positions[:, None, None]
        return Taken(features, np.full(len(positions), GOOD, np.uint8), -positions)

    wanted = np.array([599, 300, 1, 301, 300])
    reader = FeatureReader(entry, Room(0), instead)
    assert reader.take(wanted).features[:, 0, 0].tolist() == wanted.tolist()
    assert reader.failure is None
    os.truncate(entry.path_of(1), 0)
    taken = reader.take(wanted)
    assert taken.features[:, 1, 2].tolist() == [599, -300, 1, -301, -300]
    assert taken.weight.tolist() == [599, -300, 1, -301, -300]
    assert asked == [[300, 300, 301]]
    assert reader.failure is not None
    assert "chunk-00001.bin: the file has become shorter" in reader.failure
    with pytest.raises(StorageError, match="gone from the cache, or cannot be read"):
        FeatureReader(entry, Room(0)).take(wanted)
