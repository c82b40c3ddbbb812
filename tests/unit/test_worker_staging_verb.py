"""Staging by hand, and what a plan and a submission say of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from spec_helpers import changed
from staging_helpers import flip, make_set, records

from harness.cli.main import main
from harness.data.packed import open_packed
from harness.errors import DataError
from harness.launch.packed_check import check_packed
from harness.spec import load_spec
from tests.unit.worker_staging_helpers import memory

__all__ = ["memory"]  # a fixture, found by its name


def test_the_verb_says_what_it_did(memory: Path, tmp_path: Path, capsys) -> None:
    index = make_set(tmp_path / "set")
    command = ["stage", str(index.root), "--to", str(memory)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "8 files" in said
    assert "8 copied in" in said
    folder = Path(said.splitlines()[-1].strip())
    assert open_packed(folder).digest == index.digest
    flip(folder / index.shards[1].file, 33)
    (folder / "keys.bin").unlink()
    assert main([*command, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["sets"]
    assert facts["damaged"] == [index.shards[1].file]
    assert (facts["copied_files"], facts["files"]) == (2, 8)
    assert facts["copied_bytes"] == index.shards[1].bytes + 8 * 20
    assert records(open_packed(folder), np.arange(20)) == records(index, np.arange(20))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{}/nowhere"], 4, "does not exist"),
        (["{}/folder"], 2, "is not packed"),
        (["{}/set", "-o", "a=b"], 2, "-o belongs to a spec"),
        (["{}/cut"], 4, "is not as it was packed"),
        (["{}/bad"], 4, "is not what was packed"),
        (["{}/folder.yaml"], 2, "names no packed data"),
        (["{}/set", "--only", "data"], 2, "--only is of a spec"),
        (["{}/set", "--digest"], 2, "--digest is of a backbone that is fetched"),
        (["{}/set", "--from", "{}/cut"], 2, "--from is of a backbone that is fetched"),
        (["{}/folder.yaml", "--only", "backbone"], 2, "nothing is fetched of this backbone"),
        (["{}/set", "--dry-run"], 2, "--dry-run belongs to a job"),
        (["{}/set", "--site", "nosuch"], 2, "there is no such site"),
    ],
)
def test_what_the_verb_refuses(
    memory: Path, tmp_path: Path, capsys, arguments: list[str], code: int, words: str
) -> None:
    make_set(tmp_path / "set")
    cut, bad = make_set(tmp_path / "cut"), make_set(tmp_path / "bad")
    os.truncate(cut.root / cut.shards[0].file, 5)
    flip(bad.root / bad.shards[0].file, 5)
    (tmp_path / "folder").mkdir()
    backbone = {"handle": "plugin:none"}
    spec = changed(backbone=backbone, data={"train": str(tmp_path / "folder")})
    (tmp_path / "folder.yaml").write_text(json.dumps(spec))
    given = [one.format(tmp_path) for one in arguments]
    assert main(["stage", *given, "--to", str(memory)]) == code
    assert words in capsys.readouterr().err
    assert not list(memory.rglob("data-*")) or "bad" in arguments[0]


def test_a_spec_has_its_packed_sets_staged_each_once(memory: Path, tmp_path: Path, capsys) -> None:
    train = make_set(tmp_path / "train")
    (tmp_path / "test").mkdir()
    data = {"train": str(train.root), "validation": str(train.root), "test": str(tmp_path / "test")}
    file = tmp_path / "spec.yaml"
    file.write_text(json.dumps(changed(data=data, cluster={"stage": str(memory)})))
    assert main(["stage", str(file), "--only", "data", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["backbone"] is None
    assert found["place"] == str(memory)
    assert [one["name"] for one in found["sets"]] == ["data.train"]


def test_a_plan_says_how_much_there_is_to_stage(tmp_path: Path, write_pictures, capsys) -> None:
    train = make_set(tmp_path / "train", shards=3)
    test = make_set(tmp_path / "test", shards=2)
    pictures = write_pictures(tmp_path / "pictures", ["a", "b"], 4, 8)
    file = tmp_path / "spec.yaml"
    for data, stage, wanted in (
        ({"train": train.root, "test": test.root}, "scratch", (train, test)),
        ({"train": train.root}, "none", None),
        ({"train": pictures}, "scratch", ()),
    ):
        paths = {name: str(path) for name, path in data.items()}
        file.write_text(json.dumps(changed(data=paths, cluster={"stage": stage})))
        assert main(["plan", str(file), "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        size = None if wanted is None else sum(s.bytes for one in wanted for s in one.shards)
        assert plan["estimates"].get("bytes_to_stage") == size
        assert any("nothing is staged" in note for note in plan["notes"]) == (wanted == ())


def test_files_that_a_purge_took_are_seen_before_anything_is_queued(tmp_path: Path, capsys) -> None:
    index = make_set(tmp_path / "set", shards=9)
    file = tmp_path / "spec.yaml"
    file.write_text(
        "harness_spec: 1\nname: x\nbackbone: {handle: 'https://tfhub.dev/x/1'}\n"
        f"data:\n  train: {index.root}\n  validation: null\n"
    )
    resolved = load_spec(file)
    check_packed(resolved)
    assert main(["validate", str(file)]) == 0
    for shard in index.shards[2:]:
        (index.root / shard.file).unlink()
    os.truncate(index.root / index.shards[0].file, 9)
    with pytest.raises(DataError) as caught:
        check_packed(resolved)
    first, *_, last = caught.value.problems
    assert (first.path, first.file, first.line) == ("data.train", str(file), 5)
    assert str(index.root / index.shards[0].file) in first.what
    assert (first.got, first.allowed) == ("9 bytes", f"{index.shards[0].bytes} bytes")
    assert "run the same `harness pack` again" in str(first.action)
    assert "3 more of this kind" in last.what
    capsys.readouterr()
    assert main(["validate", str(file)]) == 4
    assert "is not as it was packed" in capsys.readouterr().err
    for command in ("submit", "submit --prepare", "submit --no-preflight"):
        root = ["--runs-root", str(tmp_path / "runs")]
        assert main([*command.split(), str(file), *root]) == 4, command
    assert not (tmp_path / "runs").exists()
