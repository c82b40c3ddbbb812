"""Packed sets that are damaged, or are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.data.index import folder_index
from harness.data.pack import pack
from harness.data.packed import ENTRIES, is_packed, open_packed
from harness.data.packed_verify import verify
from harness.errors import DataError, UsageError
from tests.unit.packed_helpers import packed, packing, source

__all__ = ["source"]  # a fixture, found by its name


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


def test_another_program_may_have_an_index_json(source: Path, tmp_path: Path) -> None:
    (source / "index.json").write_text('{"a": 1}')
    assert len(folder_index(source)) == 21
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "index.json").write_text("[]")
    with pytest.raises(UsageError, match="holds other files"):
        packing(source, folder)


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
