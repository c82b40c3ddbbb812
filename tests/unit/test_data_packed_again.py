"""Packing that is interrupted, shared out or begun again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.data.pack import pack, write_shard
from harness.data.packed import ENTRIES, KEYS, LABELS, OFFSETS, is_packed, open_packed
from harness.data.packed_verify import verify
from harness.data.packing import Packing
from harness.errors import DataError, UsageError
from tests.unit.packed_helpers import packed, packing, records, source

__all__ = ["source"]  # a fixture, found by its name


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
