"""Copies of packed sets on a node: whole or not at all, ours alone, and never believed blindly."""

from __future__ import annotations

import os
import stat

import numpy as np
import pytest
from staging_helpers import flip, make_set, records

from harness.data import packed_read
from harness.data.nearby import Nearby, Room
from harness.data.packed import INDEX, PackedIndex, open_packed
from harness.data.packed_read import Damaged, Piece, read_records
from harness.data.staging import StagedSet, Stopped
from harness.errors import DataError
from tests.unit.staged_set_helpers import copy_all, packed, staged

__all__ = ["packed", "staged"]  # fixtures, found by their names


EVERY = np.arange(20)


def read_near(one: StagedSet) -> tuple[list[bytes], list[tuple[str, str]]]:
    """All records by way of the copies, and what was told of these."""
    index, told = open_packed(one.index.root), []
    index.near = Nearby(one.folder, lambda name, why: told.append((name, why)))
    return records(index, EVERY), told


def test_a_copy_is_a_packed_set_of_its_own_that_nobody_else_reads(staged: StagedSet) -> None:
    assert [item.name for item in staged.missing()][:2] == [
        "offsets.bin",
        "data-00000-of-00005.tfrecord",
    ]
    before = os.umask(0)
    try:
        copy_all(staged)
    finally:
        os.umask(before)
    assert staged.is_whole()
    assert records(open_packed(staged.folder), EVERY) == records(staged.index, EVERY)
    names = {path.name for path in staged.folder.iterdir()}
    assert names == {item.name for item in staged.items} | {INDEX}
    assert {stat.S_IMODE(p.stat().st_mode) for p in staged.folder.iterdir()} == {0o600}
    for folder in (staged.folder, staged.base, staged.base.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_copied_is_read_and_the_rest_is_not_missed(staged: StagedSet) -> None:
    wanted = records(staged.index, EVERY)
    for item in staged.missing()[:3]:
        staged.copy(item)
    # Two shards have a copy: without them in the set, only these can have been read.
    for shard in staged.index.shards[:2]:
        (staged.index.root / shard.file).rename(staged.index.root / f"{shard.file}.away")
    index = staged.index
    index.near = Nearby(staged.folder, lambda name, why: pytest.fail(f"{name} {why}"))
    assert records(index, EVERY) == wanted
    index.near = None
    assert records(index, EVERY) == [b""] * 8 + wanted[8:]


@pytest.mark.parametrize("where", ["record", "length", "checksum", "offsets", "cut", "gone"])
def test_a_damaged_copy_costs_no_example_and_is_read_no_more(staged: StagedSet, where: str) -> None:
    copy_all(staged)
    wanted = records(staged.index, EVERY)
    shard = staged.folder / staged.index.shards[2].file
    index, told = open_packed(staged.index.root), []
    index.near = Nearby(staged.folder, lambda name, why: told.append((name, why)))
    assert records(index, EVERY) == wanted
    assert told == []
    size = shard.stat().st_size
    if where == "offsets":
        flip(staged.folder / "offsets.bin", 9 * 8)
        named, words = "offsets.bin", "says else than the set"
    elif where == "cut":
        os.truncate(shard, size - 10)
        named, words = shard.name, "was cut"
    elif where == "gone":
        shard.unlink()
        named, words = shard.name, "has vanished"
    else:
        flip(shard, {"record": 100, "length": 2, "checksum": size - 2}[where])
        named, words = shard.name, "holds else than the set"
    assert records(index, EVERY) == wanted
    assert records(index, EVERY) == wanted
    assert told == [(named, words)], "once"
    assert not (staged.folder / named).exists(), "nobody else reads it either"


@pytest.mark.parametrize("at", range(0, 160, 3))
def test_any_flipped_bit_of_the_offsets_is_found(staged: StagedSet, at: int) -> None:
    copy_all(staged)
    wanted = records(staged.index, EVERY)
    flip(staged.folder / "offsets.bin", at)
    found, told = read_near(staged)
    assert found == wanted
    assert [name for name, _ in told] == ["offsets.bin"]


def test_what_is_damaged_in_the_set_itself_stays_so(staged: StagedSet) -> None:
    """A copy made before still holds it; without one the set has the last word."""
    flip(staged.index.root / staged.index.shards[1].file, 100)
    index, told = staged.index, []
    index.near = Nearby(staged.folder, lambda name, why: told.append(name))
    with pytest.raises(Damaged, match="wrong checksum"):
        Piece(index, 4, 1).record(0)
    assert told == []


def test_a_file_that_is_not_what_was_packed_is_not_copied(staged: StagedSet) -> None:
    item = staged.items[3]
    flip(staged.index.root / item.name, 50)
    with pytest.raises(DataError, match=f"{item.name} is not what was packed") as caught:
        staged.copy(item)
    assert caught.value.exit_code == 4
    (staged.index.root / item.name).unlink()
    with pytest.raises(DataError, match="cannot be read, got No such file"):
        staged.copy(item)
    assert list(staged.folder.iterdir()) == []


def test_a_copy_that_was_changed_is_found_by_its_checksum(staged: StagedSet) -> None:
    copy_all(staged)
    flip(staged.folder / staged.items[2].name, 7)
    assert [item for item in staged.items if staged.drop_damaged(item)] == [staged.items[2]]
    assert staged.missing() == [staged.items[2]]
    assert not staged.is_whole()


def test_whoever_is_told_to_stop_leaves_nothing(staged: StagedSet) -> None:
    with pytest.raises(Stopped):
        staged.copy(staged.items[1], lambda: True)
    assert list(staged.folder.iterdir()) == []


def test_an_index_that_has_changed_is_not_taken_over(staged: StagedSet) -> None:
    other = make_set(staged.index.root.parent / "other", shards=6)
    (staged.index.root / INDEX).write_bytes((other.root / INDEX).read_bytes())
    with pytest.raises(DataError, match="has changed"):
        copy_all(staged)
    assert not (staged.folder / INDEX).exists()


def test_records_are_read_into_the_same_memory(packed: PackedIndex) -> None:
    room = Room()
    whole = [bytes(record) for record in read_records(packed, EVERY, room)]
    held = room.of(1)
    assert [bytes(record) for record in read_records(packed, EVERY[::3], room)] == whole[::3]
    assert room.of(1).base is held.base, "it was large enough"


def test_what_is_long_is_read_in_parts(
    packed: PackedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = records(packed, EVERY)
    monkeypatch.setattr(packed_read, "_MOST_BYTES", 700)  # two records of a shard of four
    room = Room()
    assert [bytes(record) for record in read_records(packed, EVERY, room)] == whole
    assert [bytes(record) for record in read_records(packed, EVERY[1::3], room)] == whole[1::3]
    assert len(room.of(1).base) < 3 * 316
