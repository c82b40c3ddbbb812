"""Several labels and numbers out of TFRecord files of others, trained for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import harness
from harness.cli.main import main
from harness.errors import DataError
from tests.local.training_helpers import (
    assert_same_result,
    call,
    curve,
    mischief,
    write_spec,
)
from tests.unit.record_helpers import example, write_records

EXAMPLES = 64
FORMS: dict[str, dict[str, Any]] = {
    "list": {"label": "tags"},
    "hot": {"label": "hot", "multi_hot": True, "names": ["dark", "red"]},
    "numbers": {"labels": ["light", "redness"]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Pictures of one colour, dark or not, red or not; three quarters of them for training."""
    folder = tmp_path_factory.mktemp("data")
    made = []
    for number in range(EXAMPLES):
        light, red = np.random.default_rng(number).uniform(0, 1, 2).tolist()
        colour = np.rint([255 * red, 255 * light, 255 * light]).astype(np.uint8)
        picture = tf.io.encode_png(np.broadcast_to(colour, (16, 16, 3)).copy()).numpy()
        tags = ["dark"] * (light < 0.5) + ["red"] * (red > 0.5)
        held = {"picture": picture, "light": 5000 + 1000 * light}
        held |= {"hot": [int(light < 0.5), int(red > 0.5)]} | ({"tags": tags} if tags else {})
        # Of every fourth it is not known how red it is.
        held |= {"redness": red / 1000} if number % 4 else {}
        made.append(_with_empty(example(held), "tags"))
    for number, part in enumerate((made[:24], made[24:48])):
        write_records(folder / f"train-{number:05d}-of-00002", part)
    write_records(folder / "test-00000-of-00001", made[48:])
    return folder


def _with_empty(record: bytes, name: str) -> bytes:
    """The record with an empty list of bytes, where it has no such feature."""
    message = tf.train.Example.FromString(record)
    if name not in message.features.feature:
        empty = tf.train.Feature(bytes_list=tf.train.BytesList())
        message.features.feature[name].CopyFrom(empty)
    return bytes(message.SerializeToString(deterministic=True))


def changes(data: Path, form: str, **more: Any) -> dict[str, Any]:
    return {
        "task": "image_regression" if form == "numbers" else "image_multilabel",
        "data.train": str(data / "train-*"),
        "data.test": str(data / "test-*"),
        "data.features": {"image": "picture"} | FORMS[form],
        "data.augment": {"flip": "horizontal"},
        "data.balance": "none",
        "head": {"hidden": [16]},
        "training.phases": [{"name": "one", "epochs": 12, "learning_rate": 0.05}],
        "checkpoint.every": "30 steps",
        "logging.every": "5 steps",
    } | more


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_backbone, data) -> dict[str, Path]:
    found = {}
    for form in FORMS:
        folder = tmp_path_factory.mktemp(form)
        spec = write_spec(folder, tiny_backbone, data, **changes(data, form))
        found[form] = harness.run(spec, run_dir=folder / "run", quiet=True).path
    return found


def record_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


@pytest.mark.parametrize("form", ["list", "hot"])
def test_labels_are_learned(form, runs):
    record = record_of(runs[form])
    assert record["classes"] == ["dark", "red"]
    assert record["counts"]["train"] + record["counts"]["validation"] == 48
    assert record["counts"]["test"] == 16
    assert record["counts"]["missing"] == {}
    assert record["final"]["test_accuracy"] >= 0.8, record["final"]


def test_a_list_and_a_vector_are_the_same_run(runs):
    first, second = (curve(runs[form]) for form in ("list", "hot"))
    assert len(first) > 10 and first == second


def test_numbers_are_learned_in_their_units(runs):
    record = record_of(runs["numbers"])
    assert list(record["targets"]) == ["light", "redness"]
    assert 5000 < record["targets"]["light"]["mean"] < 6000
    assert record["final"]["test_r2"] >= 0.8, record["final"]


def test_a_killed_run_ends_with_the_same_bits(runs, data, tmp_path, tiny_backbone):
    more = changes(data, "numbers") | mischief(tmp_path, at=40)
    spec = write_spec(tmp_path, tiny_backbone, data, **more)
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    code, _, err = call(*command)
    assert code == -9, err
    code, _, err = call(*command)
    assert code == 0, err
    assert_same_result(runs["numbers"], tmp_path / "run")


def test_two_devices_end_with_the_figures_of_one(runs, data, tmp_path, tiny_backbone):
    two = {"cluster.strategy": "mirrored", "cluster.replicas_per_rank": 2}
    spec = write_spec(tmp_path, tiny_backbone, data, **changes(data, "list") | two)
    code, _, err = call("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert code == 0, err
    found = record_of(tmp_path / "run")["final"]
    for name, value in record_of(runs["list"])["final"].items():
        assert found[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.parametrize("form", ["list", "numbers"])
def test_packed_inspected_predicted_and_measured(form, runs, data, tmp_path, tiny_backbone, capsys):
    spec = write_spec(tmp_path, tiny_backbone, data, **changes(data, form))
    assert main(["validate", str(spec)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(spec), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["examples"] == 48
    assert found["counts"] == record_counts(data, form)
    for split in ("train", "test"):
        place = str(tmp_path / split)
        assert main(["pack", str(spec), place, "--split", split, "--verify"]) == 0
    places = {f"data.{split}": str(tmp_path / split) for split in ("train", "test")}
    more = changes(data, form) | places | {"data.features": None}
    (tmp_path / "packed").mkdir()
    packed = write_spec(tmp_path / "packed", tiny_backbone, data, **more)
    run = harness.run(packed, run_dir=tmp_path / "packed" / "run", quiet=True)
    wanted = record_of(runs[form])
    for name, value in wanted["final"].items():
        assert run.metrics[name] == pytest.approx(value, rel=1e-4), name
    assert record_of(run.path).get("targets") == wanted.get("targets")
    capsys.readouterr()
    assert main(["evaluate", str(runs[form]), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["metrics"]
    assert measured["loss"] == pytest.approx(wanted["final"]["test_loss"], rel=1e-5)
    file = str(data / "test-00000-of-00001")
    assert main(["predict", str(runs[form]), "--json", file]) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said) == 16
    assert ("values" if form == "numbers" else "labels") in said[0]


def record_counts(data: Path, form: str) -> dict[str, int]:
    """How many of the training records have each label or number, by TensorFlow's own parser."""
    counts = dict.fromkeys(("light", "redness") if form == "numbers" else ("dark", "red"), 0)
    for file in sorted(data.glob("train-*")):
        for raw in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            held = tf.train.Example.FromString(raw).features.feature
            names = [name.decode() for name in held["tags"].bytes_list.value]
            for name in counts:
                has = len(held[name].float_list.value) if form == "numbers" else name in names
                counts[name] += bool(has)
    return counts


def test_a_manifest_may_stand_beside_and_other_labels_are_refused(
    runs, data, tmp_path, tiny_backbone
):
    picture = tmp_path / "one.png"
    picture.write_bytes(tf.io.encode_png(np.full((16, 16, 3), 200, np.uint8)).numpy())
    test = tmp_path / "test.csv"
    test.write_text("file,dark,red\none.png,0,1\n")
    assert main(["evaluate", str(runs["hot"]), "--data", str(test)]) == 0
    features = {"image": "picture", "labels": ["light", "gone"]}
    more = changes(data, "numbers") | {"data.features": features}
    spec = write_spec(tmp_path, tiny_backbone, data, **more)
    with pytest.raises(DataError, match="hold nothing to learn of the target 'gone'"):
        harness.run(spec, run_dir=tmp_path / "run", quiet=True)
