"""A column that lists labels, trained for real: the run of the same labels in columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import harness
from harness.cli.main import main
from harness.errors import DataError
from tests.local.training_helpers import CLASSES, assert_same_result, write_spec

LABELS = ("cold", "warm")


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    """Blue is cold, red is warm and, of even numbers, cold too; green is neither."""
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "pictures", CLASSES, 16, 16)
    lists, columns = ["file,what,use"], ["file,cold,warm,use"]
    for name in CLASSES:
        for number in range(16):
            held = {"blue": ["cold"], "green": []}.get(name, ["warm", "cold"][: 2 - number % 2])
            use = "test" if number > 11 else "train"
            file = f"pictures/{name}/{number:03d}.png"
            lists.append(f"{file},{' | '.join(held)},{use}")
            columns.append(f"{file},{','.join(str(int(one in held)) for one in LABELS)},{use}")
    lists.append("pictures/red/gone.png,NA,train")  # left out before it is looked at
    columns.append("pictures/red/gone.png,,,train")
    (folder / "lists.csv").write_text("\n".join(lists))
    (folder / "columns.csv").write_text("\n".join(columns))
    return folder


def changes(data: Path, way: str, **more) -> dict:
    columns = {
        "lists": {"label": "what", "label_separator": "|", "split": "use"},
        "columns": {"labels": list(LABELS), "split": "use"},
    }
    return {
        "task": "image_multilabel",
        "data.train": str(data / f"{way}.csv"),
        "data.test": None,
        "data.validation": None,
        "data.columns": columns[way],
        "data.balance": "none",
        "checkpoint.best": {"metric": "loss"},
        "training.phases": [{"name": "one", "epochs": 20, "learning_rate": 0.03}],
    } | more


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_backbone, data) -> dict[str, Path]:
    found = {}
    for way in ("lists", "columns"):
        folder = tmp_path_factory.mktemp(way)
        spec = write_spec(folder, tiny_backbone, data, **changes(data, way))
        found[way] = harness.run(spec, run_dir=folder / "run", quiet=True).path
    return found


def test_a_list_is_learned_as_columns_are(runs):
    assert_same_result(runs["columns"], runs["lists"])
    one, other = (json.loads((run / "run.json").read_text()) for run in runs.values())
    for name in ("classes", "counts", "data_digest", "final"):
        assert one[name] == other[name], name
    assert one["classes"] == list(LABELS)
    assert one["counts"]["missing"] == {"train": {"label_dropped": 1}}
    assert one["final"]["test_accuracy"] >= 0.9


def test_evaluate_takes_another_list(runs, data, tmp_path, capsys):
    truth = {"blue": {"cold"}, "red": set(), "green": {"cold", "warm"}}
    files = {name: f"{data}/pictures/{name}/015.png" for name in truth}
    test = tmp_path / "test.csv"
    rows = [f"{files[name]},{'|'.join(sorted(has))}" for name, has in truth.items()]
    test.write_text("\n".join(["file,what", *rows]))
    run = str(runs["lists"])
    assert main(["predict", run, *files.values(), "--json"]) == 0
    said = [set(one["labels"]) for one in json.loads(capsys.readouterr().out)]
    right = [
        (name in guess) == (name in has)
        for guess, has in zip(said, truth.values(), strict=True)
        for name in LABELS
    ]
    assert main(["evaluate", run, "--data", str(test), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert found["accuracy"] == pytest.approx(sum(right) / len(right))
    test.write_text("\n".join(["file,what", rows[0] + "|new"]))
    assert main(["evaluate", run, "--data", str(test)]) == 4
    assert "none of those that are learned" in capsys.readouterr().err


def test_packed_and_inspected(runs, data, tmp_path, tiny_backbone, capsys):
    spec = write_spec(tmp_path, tiny_backbone, data, **changes(data, "lists"))
    assert main(["inspect", str(spec), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["examples"], found["counts"]) == (36, {"cold": 18, "warm": 12})
    for split in ("train", "test"):
        place = str(tmp_path / split)
        assert main(["pack", str(spec), place, "--split", split, "--verify"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "train"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"cold": 18, "warm": 12}
    places = {f"data.{split}": str(tmp_path / split) for split in ("train", "test")}
    more = changes(data, "lists") | places | {"data.columns": {}}
    (tmp_path / "packed").mkdir()
    packed = write_spec(tmp_path / "packed", tiny_backbone, data, **more)
    run = harness.run(packed, run_dir=tmp_path / "packed" / "run", quiet=True)
    record = json.loads((runs["lists"] / "run.json").read_text())
    assert run.metrics["test_accuracy"] == pytest.approx(record["final"]["test_accuracy"])
    more["data.columns"] = {"label_separator": "|"}
    idle = write_spec(tmp_path / "packed", tiny_backbone, data, **more)
    with pytest.raises(DataError, match="label_separator says how a manifest is read"):
        harness.run(idle, run_dir=tmp_path / "packed" / "idle", quiet=True)
