"""What is not packed, and what is not said of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.data.index import ExampleIndex
from harness.data.pack import pack
from harness.data.pack_plan import PackOptions
from harness.data.packed import open_packed
from harness.data.packing import Packing
from harness.errors import DataError, UsageError
from harness.spec import load_spec
from harness.worker.pack_source import PackSource
from tests.local.pack_sources_helpers import data, packed, spec_of
from tests.local.training_helpers import CLASSES

__all__ = ["data", "packed"]  # fixtures, found by their names


def test_of_sensitive_data_nothing_is_named(
    data: Path, tiny_backbone: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "canary-1.png").write_bytes(b"no picture")
    rows = [f"{data}/pictures/{label}/000.png,{label}" for label in CLASSES]
    rows += [f"{tmp_path}/canary-1.png,red"]
    (tmp_path / "all.csv").write_text("\n".join(["file,label", *rows]))
    changes = {"data.train": str(tmp_path / "all.csv"), "data.columns": {}, "data.sensitive": True}
    spec = spec_of(tmp_path, tiny_backbone, data, **changes)
    command = ["pack", str(spec), str(tmp_path / "out"), "--resize", "8"]
    capsys.readouterr()
    assert main(command) == 0
    said = capsys.readouterr()
    assert "1 could not be decoded and are packed as they are\n" in said.out
    assert main([*command[:2], str(tmp_path / "json"), *command[3:], "--json"]) == 0
    held = capsys.readouterr()
    assert json.loads(held.out)["undecodable"] == 1
    # A file that is gone between the listing and the packing is not named either.
    packing = Packing(
        index := _index(spec),
        range(len(index)),
        tmp_path / "new",
        PackOptions(),
        None,
        sensitive=True,
    )
    (tmp_path / "canary-1.png").unlink()
    with pytest.raises(DataError, match=r"data\.sensitive") as error:
        pack(packing)
    assert "canary" not in said.out + said.err + held.out + held.err + str(error.value)


def _index(spec: Path) -> ExampleIndex:
    return PackSource(spec, None, load_spec(str(spec)).spec).index()


def test_other_classes_are_another_pack(data: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    # A label in a record is a row of the classes of training, so shards of both would be mixed.
    index = _index(spec_of(tmp_path, tiny_backbone, data))
    more = replace(index, classes=("amber", *index.classes), labels=[x + 1 for x in index.labels])
    assert more.digest == index.digest
    first = Packing(index, range(len(index)), tmp_path / "out", PackOptions(1000), None)
    pack(first, part=0, parts=2)
    with pytest.raises(UsageError, match="is another pack") as error:
        Packing(more, range(len(index)), tmp_path / "out", PackOptions(1000), None)
    assert "amber" in str(error.value)
    pack(first)
    assert first.finish() is not None
    with pytest.raises(UsageError, match="is another pack"):
        Packing(more, range(len(index)), tmp_path / "out", PackOptions(1000), None)


def test_columns_that_nobody_explains_are_said(data: Path, tmp_path: Path, capsys) -> None:
    rows = [f"{data}/pictures/{label}/000.png,{label},3" for label in CLASSES]
    (tmp_path / "plain.csv").write_text("\n".join(["file,label,weight", *rows]))
    assert main(["pack", str(tmp_path / "plain.csv"), str(tmp_path / "out")]) == 0
    assert "its columns 'weight' are not packed" in capsys.readouterr().err


def test_no_set_is_packed_into_data_of_its_spec(
    data: Path, packed: Path, tiny_backbone: Path, tmp_path: Path, capsys
) -> None:
    # Only what is asked for may not be packed already: here the test data are a folder.
    changes = {"data.columns": {}, "data.test": str(data / "pictures")}
    spec = spec_of(
        tmp_path, tiny_backbone, data, **{"data.train": str(packed / "train")}, **changes
    )
    command = ["pack", str(spec), str(data / "pictures" / "out"), "--split", "test"]
    assert main(command) == 2
    assert "lies in the data that are to be packed" in capsys.readouterr().err
    assert main(["pack", str(spec), str(tmp_path / "out"), "--split", "test"]) == 0
    assert open_packed(tmp_path / "out").classes == CLASSES


BAD: dict[str, tuple[dict[str, Any], Sequence[str], int, str]] = {
    "a fraction": ({}, ["--split", "validation"], 4, "names no validation data that could be"),
    "a fraction, of no rows": (
        {"data.columns": {"path": "picture", "label": "colour"}},
        ["--split", "validation"],
        4,
        "names no validation data that could be",
    ),
    "no such data": (
        {"data.columns": {"path": "picture", "label": "colour"}},
        ["--split", "test"],
        4,
        "names no test data that could be packed",
    ),
    "another medium": ({}, ["--medium", "text"], 2, "the spec says what its examples are"),
    "a packed set": ({"data.train": "{packed}/train", "data.columns": {}}, [], 2, "packed already"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_packed(
    case: str, data: Path, packed: Path, tiny_backbone: Path, tmp_path: Path, capsys
) -> None:
    changes, words, code, said = BAD[case]
    changes = {
        name: value.format(packed=packed) if isinstance(value, str) else value
        for name, value in changes.items()
    }
    spec = spec_of(tmp_path, tiny_backbone, data, **changes)
    capsys.readouterr()
    assert main(["pack", str(spec), str(tmp_path / "out"), *words]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_split_is_of_a_spec(data: Path, tmp_path: Path, capsys) -> None:
    command = ["pack", str(data / "pictures"), str(tmp_path / "out"), "--split", "test"]
    assert main(command) == 2
    assert "which part is packed is a matter of a spec" in capsys.readouterr().err
