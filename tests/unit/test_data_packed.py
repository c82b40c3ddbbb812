"""Packed data sets: which example goes where, what is on disk, interruptions and damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from harness.data.index import folder_index
from harness.data.order import canonical_rows
from harness.data.pack import pack, write_shard
from harness.data.pack_plan import PackOptions, shard_bounds
from harness.data.packed import ENTRIES, KEYS, LABELS, OFFSETS, PackedIndex, is_packed, open_packed
from harness.data.packed_read import pieces
from harness.data.packed_verify import verify
from harness.data.packing import Packing
from harness.data.split import name_key
from harness.errors import DataError, UsageError

CLASSES = ["blue", "green", "red"]


@pytest.fixture
def source(tmp_path: Path, write_pictures: Callable[..., Path]) -> Path:
    return write_pictures(tmp_path / "source", CLASSES, 7, 16)


def packing(source: Path, folder: Path, **options: int) -> Packing:
    index = folder_index(source)
    asked = PackOptions(**{"shard_bytes": 600, **options})
    return Packing(index, canonical_rows(len(index)), folder, asked, None)


def packed(source: Path, folder: Path, **options: int) -> PackedIndex:
    made = packing(source, folder, **options)
    pack(made)
    done = made.finish()
    assert done is not None
    return done


def records(index: PackedIndex) -> list[dict[str, object]]:
    """All examples, as any TensorFlow program reads them."""
    files = [str(index.root / shard.file) for shard in index.shards]
    features = {
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/class/text": tf.io.FixedLenFeature([], tf.string),
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
    }
    found = []
    for raw in tf.data.TFRecordDataset(files):
        parsed = tf.io.parse_single_example(raw, features)
        found.append({name: value.numpy() for name, value in parsed.items()})
    return found


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


def test_what_is_there_is_not_written_again(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    first = packing(source, folder)
    write_shard(first, 1)
    before = (folder / first.name(1)).stat()
    assert is_packed(folder)
    with pytest.raises(DataError, match="not packed to its end"):
        open_packed(folder)
    assert first.finish() is None
    done = packed(source, folder)
    assert (folder / first.name(1)).stat().st_ino == before.st_ino
    assert open_packed(folder).digest == done.digest
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(shard.file for shard in done.shards), *ENTRIES, "index.json"]
    )


def test_parts_are_the_whole_together(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    whole = packed(source, tmp_path / "whole")
    for part in (2, 0, 1):
        made = packing(source, folder)
        assert made.finish() is None
        pack(made, part, 3)
    assert made.finish() is not None
    assert open_packed(folder).digest == whole.digest


def test_an_example_that_is_gone_stops_it_and_keeps_the_rest(source: Path, tmp_path: Path) -> None:
    made = packing(source, tmp_path / "packed")
    gone = made.source.names[made.rows[made.positions(2)[0]]]
    kept = (source / gone).read_bytes()
    (source / gone).unlink()
    with pytest.raises(DataError, match="cannot be read") as caught:
        pack(made, workers=1)
    assert gone in str(caught.value)
    assert made.todo() == list(range(2, made.shards))
    assert not list((tmp_path / "packed" / ".packing").glob("*tmp"))
    (source / gone).write_bytes(kept)
    pack(made)
    assert made.finish() is not None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "it is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes"),
    ],
)
@pytest.mark.parametrize("which", ["shard", OFFSETS, LABELS, KEYS])
def test_what_was_purged_is_seen_and_made_again(
    damage: Callable[[Path], None], words: str, which: str, source: Path, tmp_path: Path
) -> None:
    index = packed(source, tmp_path / "packed")
    damage(index.root / (index.shards[1].file if which == "shard" else which))
    with pytest.raises(DataError, match="not as it was packed") as caught:
        open_packed(index.root)
    assert words in str(caught.value)
    again = packed(source, tmp_path / "packed")
    assert open_packed(index.root).digest == again.digest == index.digest
    assert not list(verify(again))
    assert len(records(again)) == 21


def test_a_changed_byte_is_found_by_the_checksum(source: Path, tmp_path: Path) -> None:
    index = packed(source, tmp_path / "packed")
    path = index.root / index.shards[0].file
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert len(open_packed(index.root)) == 21, "its size is as it was"
    (problem,) = verify(index)
    assert path.name in problem.what


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_that_are_not_those_of_the_records_are_found(
    name: str, source: Path, tmp_path: Path
) -> None:
    index = packed(source, tmp_path / "packed")
    raw = bytearray((index.root / name).read_bytes())
    raw[8] ^= 1
    (index.root / name).write_bytes(raw)
    (problem,) = verify(index)
    assert name in problem.what


def test_parts_that_end_together_all_find_it_finished(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    first, second, late = (packing(source, folder) for _ in range(3))
    pack(first)
    assert first.finish() is not None
    done = second.finish()
    assert done is not None
    assert done.digest == open_packed(folder).digest
    # One that still writes what the others have finished.
    assert write_shard(late, 1).shard == done.shards[1]
    assert late.finish() is not None
    assert not (folder / ".packing").exists()


def test_many_processes_may_end_in_one_moment(source: Path, tmp_path: Path) -> None:
    for turn in range(10):
        folder = tmp_path / f"packed {turn}"
        several = [packing(source, folder) for _ in range(8)]
        pack(several[0])
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(Packing.finish, several))
        assert len({index.digest for index in found if index is not None}) == 1
        assert None not in found
        assert len(open_packed(folder)) == 21


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


def test_another_program_may_have_an_index_json(source: Path, tmp_path: Path) -> None:
    (source / "index.json").write_text('{"a": 1}')
    assert len(folder_index(source)) == 21
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "index.json").write_text("[]")
    with pytest.raises(UsageError, match="holds other files"):
        packing(source, folder)


def test_a_picture_that_changes_meanwhile_is_an_error(source: Path, tmp_path: Path) -> None:
    made = packing(source, tmp_path / "packed")
    with (source / made.source.names[3]).open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match="has changed since"):
        pack(made)


def test_another_pack_is_not_mixed_in(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    write_shard(packing(source, folder), 0)
    with pytest.raises(UsageError, match="is another pack") as caught:
        packing(source, folder, resize=8)
    assert "'resize': 8" in str(caught.value)
    packed(source, folder)
    with pytest.raises(UsageError, match="is another pack"):
        packing(source, folder, shard_bytes=700)
    (source / "red" / "extra.png").write_bytes((source / "red" / "000.png").read_bytes())
    with pytest.raises(UsageError, match="source_digest"):
        packing(source, folder)
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        packing(source, folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"harness_packed": 2}, "another version"),
        ({"order": "sorted"}, "another version"),
        ({"counts": [7, 7]}, "is broken"),
        ({"counts": [7, 7, 8]}, "is broken"),
        ({"shards": [{"file": "x"}]}, "is broken"),
        ({"classes": None}, "is broken"),
        ({"missing": [1]}, "is broken"),
        ({"missing": None}, "is broken"),
    ],
)
def test_an_index_that_is_not_ours_is_refused(
    change: dict[str, object], words: str, source: Path, tmp_path: Path
) -> None:
    index = packed(source, tmp_path / "packed")
    file = index.root / "index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DataError, match=words):
        open_packed(index.root)
    file.write_text("{")
    with pytest.raises(DataError, match="no valid JSON"):
        open_packed(index.root)


def test_a_message_of_tensorflow_that_is_no_text_is_no_end(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It quotes the file; rare damage only makes it do so, so this plays it."""

    def decode(contents: object) -> None:
        b"\xff".decode()

    monkeypatch.setattr("harness.data.pack.decode", decode)
    assert len(pack(packing(source, tmp_path / "packed", resize=8))) == 21


def test_a_folder_that_is_no_pack_is_refused(tmp_path: Path) -> None:
    assert not is_packed(tmp_path)
    with pytest.raises(DataError, match="is no packed set"):
        open_packed(tmp_path)


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
