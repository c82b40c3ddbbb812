"""A run from one manifest: splits, groups and weights by its columns, and what it records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import harness
from harness.cli.main import main
from harness.errors import DataError
from tests.local.training_helpers import CLASSES, write_spec

USE = ["train"] * 8 + ["validation"] * 4 + ["test"] * 4


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    """Pictures, and a manifest that lacks a label, a weight and a file."""
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "pictures", CLASSES, 16, 16)
    rows = ["picture,colour,patient,weight,use"]
    for label in CLASSES:
        for number in range(16):
            name = f"pictures/{label}/{number:03d}.png"
            rows.append(f"{name},{label},{label}{number // 2},1,{USE[number]}")
    rows[1] = rows[1].replace(",blue,", ",,")
    rows[2] = rows[2].replace(",1,", ",NA,")
    rows += ["pictures/gone.png,red,red9,1,test"]
    (folder / "all.csv").write_text("\n".join(rows))
    return folder


def manifest_spec(folder: Path, backbone: Path, data: Path, **changes) -> Path:
    columns = {"path": "picture", "label": "colour", "group": "patient", "weight": "weight"}
    changes = {
        "data.train": str(data / "all.csv"),
        "data.test": None,
        "data.columns": columns | {"split": "use"},
        "data.missing": {"file": "drop"},
        "training.phases": [{"name": "one", "epochs": 2, "learning_rate": 0.02}],
    } | changes
    return write_spec(folder, backbone, data, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_backbone, data) -> Path:
    folder = tmp_path_factory.mktemp("manifest")
    harness.run(manifest_spec(folder, tiny_backbone, data), run_dir=folder / "run", quiet=True)
    return folder / "run"


def test_the_record_counts_what_was_there_and_what_was_not(run):
    record = json.loads((run / "run.json").read_text())
    counts = record["counts"]
    assert (counts["train"], counts["validation"], counts["test"]) == (23, 12, 12)
    assert counts["missing"] == {
        "train": {"label_dropped": 1, "weight_imputed": 1},
        "test": {"file_dropped": 1},
    }
    assert record["weight_fill"] == 1.0
    assert record["classes"] == sorted(CLASSES)
    assert record["data_digest"]["train"].startswith("manifest:")
    assert {"test_accuracy", "val_loss"} <= set(record["final"])


def test_a_changed_label_is_other_data(run, tmp_path, tiny_backbone, data, capsys):
    manifest = (data / "all.csv").read_text()
    (run / "FINISHED").rename(run / "kept")
    try:
        (data / "all.csv").write_text(manifest.replace("003.png,red", "003.png,green"))
        with pytest.raises(DataError, match="the train data have changed"):
            harness.run(run / "spec.yaml", run_dir=run, quiet=True)
    finally:
        (data / "all.csv").write_text(manifest)
        (run / "kept").rename(run / "FINISHED")
        (run / "FAILED").unlink(missing_ok=True)


def test_evaluate_and_predict_take_manifests(run, data, capsys):
    record = json.loads((run / "run.json").read_text())
    assert main(["evaluate", str(run), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["metrics"]
    assert figures["accuracy"] == record["final"]["test_accuracy"]
    assert figures["loss"] == pytest.approx(record["final"]["test_loss"], rel=1e-5)
    # A manifest of other columns than patients and splits will do.
    rows = (data / "all.csv").read_text().splitlines()
    some = [",".join([*row.split(",")[:2], row.split(",")[3]]) for row in [rows[0], *rows[-5:]]]
    (data / "some.csv").write_text("\n".join(some))
    assert main(["evaluate", str(run), "--json", "--data", str(data / "some.csv")]) == 0
    assert "accuracy" in json.loads(capsys.readouterr().out)["metrics"]
    assert main(["predict", str(run), "--json", str(data / "some.csv")]) == 4
    found = json.loads(capsys.readouterr().out)
    assert [Path(one["file"]).name for one in found] == [
        "012.png",
        "013.png",
        "014.png",
        "015.png",
        "gone.png",
    ]
    assert [one.get("label") in CLASSES for one in found] == [True] * 4 + [False]


def test_weights_multiply_the_loss_of_their_examples(run, data, capsys):
    rows = [row.split(",")[:2] for row in (data / "all.csv").read_text().splitlines()]
    some = [row for row in rows[1:-1] if row[1]][::4]

    def figures(weights: list[float]) -> dict[str, float]:
        lines = [f"{','.join(row)},{weight}" for row, weight in zip(some, weights, strict=True)]
        (data / "weighted.csv").write_text("\n".join(["picture,colour,weight", *lines]))
        assert main(["evaluate", str(run), "--json", "--data", str(data / "weighted.csv")]) == 0
        return json.loads(capsys.readouterr().out)["metrics"]

    plain = figures([1.0] * len(some))
    parts = [figures([float(n % 2 == side) for n in range(len(some))]) for side in (0, 1)]
    mixed = figures([3.0 if n % 2 else 0.5 for n in range(len(some))])
    assert parts[0]["loss"] + parts[1]["loss"] == pytest.approx(plain["loss"], rel=1e-4)
    wanted = 0.5 * parts[0]["loss"] + 3 * parts[1]["loss"]
    assert mixed["loss"] == pytest.approx(wanted, rel=1e-4)
    assert mixed["accuracy"] == plain["accuracy"]


def test_training_batches_carry_the_weights(data):
    from harness.data.manifest import manifest_index
    from harness.data.manifest_columns import ManifestOptions
    from harness.data.order import Order
    from harness.data.pipeline import Feed

    options = ManifestOptions(path="picture", label="colour", weight="weight", missing_file="drop")
    index = manifest_index(data / "all.csv", options)
    weights = [float(number) for number in range(len(index))]
    feed = Feed(
        replace(index, weights=weights),
        order=Order(len(index), 8, 8, 1, 2, 2),
        class_weights=[1.0, 10.0, 100.0],
    )
    for batch in feed.training(0, 0, 16).take(feed.steps_per_epoch):
        rows = batch["index"].numpy().tolist()
        assert batch["weight"].numpy().tolist() == [
            weights[row] * 10.0 ** index.labels[row] for row in rows
        ]


def test_a_patient_on_two_sides_is_refused_before_training(tmp_path, tiny_backbone, data):
    text = (data / "all.csv").read_text().replace("red7,1,test", "red0,1,test", 1)
    (tmp_path / "all.csv").write_text(text)
    spec = manifest_spec(
        tmp_path,
        tiny_backbone,
        data,
        **{"data.train": str(tmp_path / "all.csv"), "data.root": str(data)},
    )
    with pytest.raises(DataError, match="1 group both in train and in test, got 'red0'"):
        harness.run(spec, run_dir=tmp_path / "run", quiet=True)
