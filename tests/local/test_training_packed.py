"""A run from packed shards: the weights and figures of one from the folder that was packed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import harness
from harness.cli.main import main
from tests.local.training_helpers import (
    CLASSES,
    assert_equal_losses,
    assert_same_result,
    call,
    mischief,
    write_spec,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    """Training and test pictures, as folders and packed."""
    folder = tmp_path_factory.mktemp("data")
    for name, number in (("train", 17), ("test", 5)):
        write_pictures(folder / name, CLASSES, number, 16)
        (folder / "packed").mkdir(exist_ok=True)
        assert main(["pack", str(folder / name), str(folder / "packed" / name)]) == 0
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_backbone, data) -> dict[str, Path]:
    found = {}
    for name, at in (("folder", data), ("packed", data / "packed")):
        folder = tmp_path_factory.mktemp(name)
        spec = write_spec(folder, tiny_backbone, at)
        harness.run(spec, run_dir=folder / "run", quiet=True)
        found[name] = folder / "run"
    return found


def test_a_run_from_shards_is_that_from_the_folder(runs):
    one, other = (json.loads((run / "run.json").read_text()) for run in runs.values())
    for name in ("counts", "classes", "lanes", "block", "window"):
        assert one[name] == other[name]
    assert {key: digest.split(":")[0] for key, digest in other["data_digest"].items()} == {
        "train": "packed-part",
        "validation": "packed-part",
        "test": "packed",
    }
    assert_equal_losses(*runs.values(), relative=1e-6)


def test_a_run_from_shards_that_was_killed_ends_with_the_same_lines(
    runs, tiny_backbone, data, tmp_path
):
    changes = mischief(tmp_path, at=7)
    spec = write_spec(tmp_path, tiny_backbone, data / "packed", **changes)
    assert call("run", str(spec), "--run-dir", str(tmp_path / "run"))[0] == -9
    assert call("run", str(spec), "--run-dir", str(tmp_path / "run"))[0] == 0
    assert_same_result(tmp_path / "run", runs["packed"])


def test_evaluate_takes_a_packed_set(runs, data, capsys):
    figures = []
    for path in (data / "test", data / "packed" / "test"):
        command = ["evaluate", str(runs["packed"]), "--data", str(path), "--json"]
        assert main(command) == 0
        figures.append(json.loads(capsys.readouterr().out))
    assert figures[0].keys() == figures[1].keys()
    for key, value in figures[0].items():
        if isinstance(value, float):
            assert figures[1][key] == pytest.approx(value, rel=1e-6)


def test_a_shard_that_was_purged_is_seen_before_anything_is_trained(
    tiny_backbone, data, tmp_path, capsys, write_pictures
):
    write_pictures(tmp_path / "few", CLASSES, 4, 16)
    packed = ["pack", str(tmp_path / "few"), str(tmp_path / "packed")]
    assert main(packed) == 0
    (tmp_path / "packed" / "data-00000-of-00001.tfrecord").unlink(missing_ok=False)
    spec = write_spec(
        tmp_path,
        tiny_backbone,
        data,
        **{"data.train": str(tmp_path / "packed"), "data.test": None},
    )
    capsys.readouterr()
    assert main(["run", str(spec), "--run-dir", str(tmp_path / "run")]) == 4
    said = capsys.readouterr().err
    assert "data-00000-of-00001.tfrecord is not as it was packed" in said
    assert "run the same `harness pack` again" in said


def test_offsets_that_are_not_those_of_the_shards_end_it_with_their_name(
    tiny_backbone, data, tmp_path, capsys, write_pictures
):
    write_pictures(tmp_path / "few", CLASSES, 4, 16)
    assert main(["pack", str(tmp_path / "few"), str(tmp_path / "packed")]) == 0
    offsets = tmp_path / "packed" / "offsets.bin"
    offsets.write_bytes(bytes(offsets.stat().st_size))
    changes = {"data.train": str(tmp_path / "packed"), "data.test": None}
    spec = write_spec(tmp_path, tiny_backbone, data, **changes)
    capsys.readouterr()
    assert main(["run", str(spec), "--run-dir", str(tmp_path / "run")]) == 4
    said = capsys.readouterr().err
    assert f"{offsets} is broken, got" in said
    assert "delete it and run the same `harness pack` again" in said
    assert "Traceback" not in said and "node PyFunc" not in said
