"""Features on disk: whole or not at all, found again by what decides them, read in any order."""

from __future__ import annotations

import os
import stat
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import feature_read, feature_room
from harness.data.feature_read import FeatureReader, Room
from harness.data.feature_room import entries, remove, to_remove
from harness.data.feature_store import BAD, ENTRY, GOOD, USED, Chunk, Entry, Layout, sweep
from harness.errors import StorageError

FACTS = {"backbone": "abc", "image_size": 96}


def chunk(layout: Layout, number: int) -> Chunk:
    """Rows that say where they stand."""
    first, last = layout.span(number)
    rows = np.arange(first, last)
    features = np.broadcast_to(
        rows.reshape(-1, *[1] * len(layout.shape)) % 2000, (len(rows), *layout.shape)
    )
    state = np.where(rows % 7 == 3, BAD, GOOD).astype(np.uint8)
    return Chunk(features.astype(layout.dtype), state, rows.astype(np.float32) / 2)


def written(root: Path, layout: Layout, facts: dict[str, Any] = FACTS) -> Entry:
    entry = Entry(root, facts, layout)
    entry.make()
    for number in entry.missing():
        entry.write(number, chunk(layout, number))
    return entry


@settings(max_examples=12)
@given(
    examples=st.integers(1, 1200),
    shape=st.lists(st.integers(1, 5), max_size=2),
    dtype=st.sampled_from(["float16", "float32"]),
    room=st.sampled_from([0, 20_000, 1 << 30]),
    data=st.data(),
)
def test_what_was_written_is_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory,
    examples: int,
    shape: list[int],
    dtype: str,
    room: int,
    data: st.DataObject,
) -> None:
    layout = Layout.of(examples, shape, dtype)
    entry = written(tmp_path_factory.mktemp("cache"), layout)
    assert entry.missing() == []
    size = sum(path.stat().st_size for path in entry.folder.iterdir())
    assert layout.bytes <= size <= layout.bytes + 1000
    wanted = data.draw(st.lists(st.integers(0, examples - 1), max_size=50))
    positions = np.array(wanted, np.int64)
    taken = FeatureReader(entry, Room(room)).take(positions)
    assert taken.features.dtype == np.float32
    assert taken.features.shape == (len(wanted), *shape)
    first = taken.features.reshape(len(wanted), int(np.prod(shape)))[:, 0]
    np.testing.assert_array_equal(first, positions % 2000)
    np.testing.assert_array_equal(taken.state == BAD, positions % 7 == 3)
    np.testing.assert_array_equal(taken.weight, positions / 2)


@pytest.mark.parametrize("width", [3, 1280, 1 << 20])
@pytest.mark.parametrize("examples", [1, 255, 256, 257, 262_144, 100_000_000])
def test_chunks_cover_all_examples_and_are_few_or_not_large(examples: int, width: int) -> None:
    layout = Layout.of(examples, (width,), "float32")
    size = layout.rows * layout.row_bytes
    assert layout.chunks <= 1024 or size > 60e6
    assert size <= 68e6 or layout.rows == 256
    assert layout.span(0)[0] == 0
    assert layout.span(layout.chunks - 1)[1] == examples
    some = [0, layout.chunks // 2, layout.chunks - 1]
    assert all(layout.span(n)[1] == layout.span(n + 1)[0] for n in some if n + 1 < layout.chunks)


def test_other_facts_and_other_layouts_are_other_entries(tmp_path: Path) -> None:
    layout = Layout.of(10, (4,), "float32")
    same = Entry(tmp_path, dict(reversed(FACTS.items())), layout)
    others = [
        Entry(tmp_path, FACTS | {"image_size": 97}, layout),
        Entry(tmp_path, FACTS | {"copy": 0}, layout),
        Entry(tmp_path, FACTS, Layout.of(11, (4,), "float32")),
        Entry(tmp_path, FACTS, Layout.of(10, (4,), "float16")),
        Entry(tmp_path, FACTS, Layout.of(10, (2, 2), "float32")),
    ]
    keys = {Entry(tmp_path, FACTS, layout).key, *(other.key for other in others)}
    assert same.key in keys
    assert len(keys) == 6


@pytest.mark.parametrize("spoil", ["flip", "cut", "remove"])
def test_a_spoilt_chunk_is_seen(tmp_path: Path, spoil: str) -> None:
    layout = Layout.of(600, (4,), "float32")
    entry = written(tmp_path, layout)
    path = entry.folder / "chunk-00001.bin"
    raw = bytearray(path.read_bytes())
    if spoil == "flip":
        raw[100] ^= 1
        path.write_bytes(raw)
    elif spoil == "cut":
        path.write_bytes(raw[:-1])
    else:
        path.unlink()
    assert entry.read(1) is None
    assert entry.missing() == ([] if spoil == "flip" else [1])
    assert entry.read(0) is not None


def test_features_that_go_while_they_are_read_are_an_error_of_storage(tmp_path: Path) -> None:
    entry = written(tmp_path, Layout.of(600, (4,), "float32"))
    reader = FeatureReader(entry, Room(0))
    reader.take(np.array([1]))
    (entry.folder / "chunk-00001.bin").unlink()
    reader.take(np.array([2]))
    with pytest.raises(StorageError, match="gone from the cache"):
        reader.take(np.array([300]))


def test_many_chunks_do_not_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_read, "_OPEN", 2)
    monkeypatch.setattr(feature_read, "_files", OrderedDict())
    entry = written(tmp_path, Layout.of(256 * 5, (1,), "float32"))
    reader = FeatureReader(entry, Room(0))
    for position in (0, 300, 600, 900, 1200, 0):
        assert reader.take(np.array([position])).features[0, 0] == position
    assert len(feature_read._files) == 2


def test_readers_share_their_room(tmp_path: Path) -> None:
    layout = Layout.of(256, (4,), "float32")
    room = Room(layout.rows * layout.row_bytes)
    readers = [FeatureReader(written(tmp_path, layout, {"x": x}), room) for x in range(2)]
    for reader in readers:
        assert reader.take(np.array([5])).features[0, 0] == 5
    assert [len(reader._held) for reader in readers] == [1, 0]


def test_an_entry_is_private_unless_the_cache_is_a_groups(tmp_path: Path) -> None:
    layout = Layout.of(3, (1,), "float32")
    own, shared = tmp_path / "own", tmp_path / "shared"
    own.mkdir(mode=0o700)
    shared.mkdir()
    shared.chmod(0o2770)
    modes = {}
    for name, root, private in (("own", own, False), ("group", shared, False), ("x", shared, True)):
        entry = Entry(root, FACTS | {"name": name}, layout)
        entry.make(private=private)
        entry.write(0, chunk(layout, 0))
        modes[name] = [
            stat.S_IMODE(path.stat().st_mode)
            for path in (entry.folder, entry.folder / "chunk-00000.bin", entry.folder / ENTRY)
        ]
    assert modes["own"] == [0o700, 0o600, 0o600]
    assert modes["group"] == [0o2770, 0o660, 0o660]
    assert modes["x"][0] & 0o077 == 0
    assert modes["x"][1:] == [0o600, 0o600]


def test_what_killed_writers_left_is_swept_once_it_is_old(tmp_path: Path) -> None:
    entry = written(tmp_path, Layout.of(3, (1,), "float32"))
    old, new = entry.folder / ".chunk-00000.bin.ab.tmp", entry.folder / ".chunk-00000.bin.cd.tmp"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    sweep(entry.folder)
    assert not old.exists()
    assert new.exists()
    assert entry.read(0) is not None


def test_the_longest_unused_go_first_and_those_in_use_stay(tmp_path: Path) -> None:
    layout = Layout.of(2000, (10,), "float32")
    now = time.time()
    for hours in (5, 0, 50, 2):
        entry = written(tmp_path, layout, FACTS | {"hours": hours})
        os.utime(entry.folder / USED, (now - 3600 * hours,) * 2)
    found = entries(tmp_path)
    assert [one.facts["hours"] for one in found] == [50, 5, 2, 0]
    each = found[0].bytes
    assert [one.facts["hours"] for one in to_remove(found, 2 * each)] == [50, 5]
    assert [one.facts["hours"] for one in to_remove(found, 0)] == [50, 5, 2]
    assert to_remove(found, 4 * each) == []
    assert remove(found[0])
    assert len(entries(tmp_path)) == 3
    assert not list((tmp_path / "features").glob(".*"))


def test_an_empty_cache_has_no_entries(tmp_path: Path) -> None:
    assert entries(tmp_path) == []
    assert not feature_room.remove(feature_room.Kept(tmp_path / "no", 0, 0.0, {}))
