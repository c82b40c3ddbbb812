"""Packed data sets: which example goes where, what is on disk, interruptions and damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from harness.data.index import folder_index
from harness.data.order import canonical_rows
from harness.data.pack import pack
from harness.data.pack_plan import PackOptions, shard_bounds
from harness.data.packed import KEYS, LABELS, open_packed
from harness.data.packed_read import pieces
from harness.data.packing import Packing
from harness.data.split import name_key
from harness.errors import UsageError
from tests.unit.packed_helpers import CLASSES, packed, packing, records, source

__all__ = ["source"]  # a fixture, found by its name


@pytest.mark.parametrize(
    ("sizes", "limit", "wanted"),
    [
        ([], 10, [0, 0]),
        ([1], 10, [0, 1]),
        ([5, 5, 5], 10, [0, 2, 3]),
        ([5, 6, 5], 10, [0, 1, 2, 3]),
        ([99, 1, 99], 10, [0, 1, 2, 3]),
        ([0, 0, 0], 1, [0, 3]),
        ([10, 1], 10, [0, 1, 2]),
    ],
)
def test_bounds_of_shards(sizes: list[int], limit: int, wanted: list[int]) -> None:
    assert shard_bounds(sizes, limit) == wanted


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 100))
def test_shards_hold_all_examples_and_are_as_full_as_they_may_be(
    sizes: list[int], limit: int
) -> None:
    bounds = shard_bounds(sizes, limit)
    assert (bounds[0], bounds[-1]) == (0, len(sizes))
    for start, end in pairwise(bounds):
        assert start < end
        assert sum(sizes[start:end]) <= limit or end == start + 1
        if end < len(sizes):
            assert sum(sizes[start : end + 1]) > limit


def test_the_files_are_standard_and_in_canonical_order(source: Path, tmp_path: Path) -> None:
    index = packed(source, tmp_path / "packed")
    assert len(index.shards) > 2
    folder = folder_index(source)
    found = records(index)
    rows = canonical_rows(len(folder))
    assert sorted(rows) == list(range(21))
    for row, record in zip(rows, found, strict=True):
        name = folder.names[row]
        assert record["image/filename"].decode() == name
        assert record["image/encoded"] == (source / name).read_bytes()
        assert record["image/class/label"] == folder.labels[row]
        assert record["image/class/text"].decode() == CLASSES[folder.labels[row]]
    assert (index.classes, index.counts) == (tuple(CLASSES), (7, 7, 7))
    assert index.source_digest == folder.digest


def test_an_example_is_found_where_the_index_says(source: Path, tmp_path: Path) -> None:
    index = open_packed(packed(source, tmp_path / "packed").root)
    names = [record["image/filename"] for record in records(index)]
    for first, count in ((0, 1), (0, 21), (3, 9), (20, 1)):
        found = []
        for piece, number in pieces(index, np.arange(first, first + count)):
            file, bounds = index.bounds(piece, number)
            for begin, end in pairwise(bounds):
                raw = file.read_bytes()[begin:end]
                assert int.from_bytes(raw[:8], "little") == len(raw) - 16
                example = tf.train.Example.FromString(raw[12:-4])
                found.append(example.features.feature["image/filename"].bytes_list.value[0])
        assert found == names[first : first + count]
    rows = canonical_rows(21)
    folder = folder_index(source)
    labels = index.entries(LABELS, 0, 21)
    assert labels.tolist() == [folder.labels[row] for row in rows]
    keys = index.entries(KEYS, 3, 2)
    assert keys.tolist() == [name_key(folder.names[row]) for row in rows[3:5]]
    shards = index.shard_of(np.arange(21))
    assert [index.shards[number].file for number in shards] == [
        index.place(position).split("#")[0] for position in range(21)
    ]
    assert index.place(0) == f"{index.shards[0].file}#0"
    for first, count in ((20, 2), (-1, 1), (3, 0), (0, 21)):
        with pytest.raises(ValueError, match="must lie within one shard"):
            index.bounds(first, count)


def test_the_same_data_give_the_same_files(source: Path, tmp_path: Path) -> None:
    one, other = packed(source, tmp_path / "one"), packed(source, tmp_path / "other")
    assert one.shards == other.shards
    assert one.digest == other.digest


def test_the_mode_of_a_folder_is_left_alone_unless_asked(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    (folder / "mine").write_text("x")
    with pytest.raises(UsageError, match="holds other files"):
        packing(source, folder)
    assert folder.stat().st_mode & 0o7777 == 0o755
    (folder / "mine").unlink()
    index = folder_index(source)
    made = Packing(index, canonical_rows(21), folder, PackOptions(600), "group")
    pack(made)
    done = made.finish()
    assert done is not None
    again = packed(source, folder)
    assert folder.stat().st_mode & 0o7777 == 0o2770
    assert {(folder / s.file).stat().st_mode & 0o777 for s in again.shards} == {0o660}


def test_large_pictures_are_shrunk_and_small_ones_stay(
    tmp_path: Path, write_pictures: Callable[..., Path]
) -> None:
    source = write_pictures(tmp_path / "source", ["a", "b"], 2, 16)
    pixels = tf.cast(tf.random.stateless_uniform([40, 80, 3], [1, 2], 0, 255, tf.int32), tf.uint8)
    (source / "a" / "large.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    (source / "b" / "large.png").write_bytes(tf.io.encode_png(pixels).numpy())
    (source / "b" / "torn.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy()[:300])
    made = packing(source, tmp_path / "packed", resize=20)
    assert pack(made) == ["b/torn.jpg"]
    index = made.finish()
    assert index is not None
    found = {
        record["image/filename"].decode(): record["image/encoded"] for record in records(index)
    }
    assert found["a/large.jpg"].startswith(b"\xff\xd8\xff")
    assert found["b/large.png"].startswith(b"\x89PNG")
    for name in ("a/large.jpg", "b/large.png"):
        assert tf.io.decode_image(found[name]).shape == [20, 40, 3]
    for name in ("a/000.png", "b/torn.jpg"):
        assert found[name] == (source / name).read_bytes()
    assert json.loads((index.root / "index.json").read_text())["undecodable"] == ["b/torn.jpg"]
    assert (index.root / index.shards[0].file).stat().st_mode & 0o777 == 0o600
