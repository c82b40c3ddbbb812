"""Runs from packed sets of several labels and of numbers: those from the manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.cli.main import main
from harness.errors import DataError
from tests.local.targets_helpers import (
    KINDS,
    NAMES,
    changes,
    from_packed,
    pack_both,
    write_data,
)
from tests.local.training_helpers import CLASSES, curve, write_spec


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), write_pictures)


@pytest.fixture(scope="module")
def packed(
    data: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    return pack_both(tmp_path_factory.mktemp("packed"), tiny_backbone, data)


@pytest.fixture(scope="module")
def runs(packed: dict[str, Path]) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for kind, folder in packed.items():
        for way in ("manifest", "packed"):
            harness.run(folder / way / "spec.yaml", run_dir=folder / way / "run", quiet=True)
            found.setdefault(kind, {})[way] = folder / way / "run"
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_from_a_set_is_that_from_the_manifest(
    kind: str, runs: dict[str, dict[str, Path]]
) -> None:
    one, other = (json.loads((run / "run.json").read_text()) for run in runs[kind].values())
    for name in ("counts", "classes", "lanes", "block", "window", "targets"):
        assert one.get(name) == other.get(name), name
    assert (other.get("targets") is None) == (kind == "labels")
    assert other["counts"]["missing"]["train"] == {"label_dropped": 1}
    first, second = (curve(run) for run in runs[kind].values())
    assert len(first) == len(second) > 10
    for line, same in zip(map(dict, first), map(dict, second), strict=True):
        if line["split"] == "train":
            assert line == same
            continue
        assert line.keys() == same.keys()
        for name, value in line.items():  # summed up in another order
            is_number = isinstance(value, float)
            assert same[name] == (pytest.approx(value, rel=1e-5) if is_number else value), name


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_of_such_a_run_is_the_same(
    kind: str,
    runs: dict[str, dict[str, Path]],
    packed: dict[str, Path],
    data: Path,
    tmp_path: Path,
    capsys,
) -> None:
    said: list[Any] = []
    pictures = [str(data / "pictures" / name / "019.png") for name in CLASSES]
    for run in runs[kind].values():
        assert main(["predict", str(run), *pictures, "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    run, figures = runs[kind]["packed"], []
    for path in ([], ["--data", str(packed[kind] / "test")]):
        assert main(["evaluate", str(run), *path, "--json"]) == 0
        figures.append(json.loads(capsys.readouterr().out)["metrics"])
    assert figures[0] == figures[1]
    # The other way round: the model of the manifest is measured on the set.
    other = str(runs[kind]["manifest"])
    assert main(["evaluate", other, "--data", str(packed[kind] / "test"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == pytest.approx(figures[0], rel=1e-5)
    assert main(["export", str(run), "--to", str(tmp_path / "model")]) == 0
    assert (tmp_path / "model" / "labels.txt").read_text().split() == NAMES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_inspect_says_the_same_of_set_and_manifest(
    kind: str, packed: dict[str, Path], capsys
) -> None:
    folder = packed[kind]
    found = []
    for path in ("manifest/spec.yaml", "packed/spec.yaml", "train"):
        capsys.readouterr()
        assert main(["inspect", str(folder / path), "--sample", "0", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    for one in found[1:]:
        for name in ("counts", "examples", "several", "targets", "missing", "imbalance"):
            assert one[name] == found[0][name], name
    capsys.readouterr()
    assert main(["inspect", str(folder / "train"), "--sample", "3"]) == 0
    printed = capsys.readouterr().out
    many = "labels" if kind == "labels" else "targets"
    assert f"{found[0]['examples']} examples of 2 {many}" in printed
    assert ("deviation" in printed) == (kind == "numbers")


@pytest.fixture(scope="module")
def classed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classed")
    assert main(["pack", str(data / "pictures"), str(folder / "train")]) == 0
    return folder / "train"


HOLDS = {
    "class": "one class for each example",
    "labels": "several labels for each example",
    "numbers": "numbers for each example",
}


@pytest.mark.parametrize("field", ["train", "validation", "test"])
@pytest.mark.parametrize("task", ["class", *KINDS])
@pytest.mark.parametrize("held", ["class", *KINDS])
def test_a_set_of_something_else_is_refused(
    held: str,
    task: str,
    field: str,
    packed: dict[str, Path],
    classed: Path,
    data: Path,
    tiny_backbone: Path,
    tmp_path: Path,
    capsys,
) -> None:
    sets = {"class": classed, **{kind: packed[kind] / "train" for kind in KINDS}}
    if held == task:
        return
    places = {"data.train": str(sets[task]), "data.test": None, "data.validation": None}
    places[f"data.{field}"] = str(sets[held])
    more = {"data.columns": {}, **({"task": "image_classification"} if task == "class" else {})}
    base = changes("labels" if task == "class" else task, data) | places | more
    if task == "class":
        base |= {"data.uncertain": None}
    base |= {"checkpoint.best": {"metric": "loss"}}
    spec = write_spec(tmp_path, tiny_backbone, data, **base)
    assert main(["run", str(spec), "--run-dir", str(tmp_path / "run")]) == 4
    said = capsys.readouterr().err
    names = CLASSES if held == "class" else NAMES[held]
    assert f"{sets[held]} is a packed set of {HOLDS[held]}" in said
    assert all(repr(name) in said for name in names)


OTHERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "other labels": (
        "labels",
        {"columns": {"labels": ["warm", "wet"]}},
        "is a packed set of other",
    ),
    "fewer": ("labels", {"columns": {"labels": ["warm"]}}, "is a packed set of other labels"),
    "another target": ("numbers", {"columns": {"label": "light"}}, "of other targets"),
    "nothing said": ("labels", {"uncertain": None}, "that are neither present nor absent"),
    "another value": ("labels", {"uncertain": {"value": 2}}, "data.uncertain.value: 2"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_the_spec_says_of_a_set_must_be_in_it(
    case: str, packed: dict[str, Path], data: Path, tiny_backbone: Path, tmp_path: Path, capsys
) -> None:
    kind, more, said = OTHERS[case]
    fields = {f"data.{name}": value for name, value in more.items()}
    spec = write_spec(
        tmp_path, tiny_backbone, data, **from_packed(kind, data, packed[kind], **fields)
    )
    assert main(["run", str(spec), "--run-dir", str(tmp_path / "run")]) == 4
    assert said in capsys.readouterr().err


def test_a_folder_gives_neither(
    data: Path, packed: dict[str, Path], tiny_backbone: Path, tmp_path: Path
) -> None:
    for kind, said in (("labels", "one label only"), ("numbers", "a class, not a number")):
        more = from_packed(kind, data, packed[kind], **{"data.train": str(data / "pictures")})
        spec = write_spec(tmp_path, tiny_backbone, data, **more)
        with pytest.raises(DataError, match=said):
            harness.run(spec, run_dir=tmp_path / kind, quiet=True)
