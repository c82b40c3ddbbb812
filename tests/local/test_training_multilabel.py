"""Several labels at once, trained for real from a manifest."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

import harness
from harness.cli.main import main
from harness.errors import DataError
from tests.local.training_helpers import (
    CLASSES,
    assert_same_result,
    call,
    lines,
    mischief,
    write_spec,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures):
    """Blue is cold, red is warm and cold or not known, green is neither, and of some uncertain."""
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "pictures", CLASSES, 16, 16)
    rows = ["file,warm,cold,use"]
    for label, even, odd in (
        ("blue", "0,1", "0,1.0"),
        ("green", "-1,0", "0,0"),
        ("red", "1,1", "1,"),
    ):
        for number in range(16):
            use = "test" if number > 11 else "train"
            signs = odd if number % 2 else even
            rows.append(f"pictures/{label}/{number:03d}.png,{signs},{use}")
    rows.append("pictures/red/gone.png,-1,,train")  # nothing known: left out before it is looked at
    (folder / "all.csv").write_text("\n".join(rows))
    return folder


def changes(data):
    return {
        "task": "image_multilabel",
        "data.train": str(data / "all.csv"),
        "data.test": None,
        "data.validation": None,
        "data.columns": {"labels": ["warm", "cold"], "split": "use"},
        "data.uncertain": {"value": -1, "as": "ignore"},
        "data.balance": "none",
        "checkpoint.best": {"metric": "loss"},
        "training.phases": [{"name": "one", "epochs": 30, "learning_rate": 0.03}],
    }


@pytest.fixture(scope="module")
def result(tmp_path_factory, tiny_backbone, data):
    folder = tmp_path_factory.mktemp("multilabel")
    spec = write_spec(folder, tiny_backbone, data, **changes(data))
    return harness.run(spec, run_dir=folder / "run", quiet=True)


def test_it_learns_and_records(result):
    record = json.loads((result.path / "run.json").read_text())
    assert record["classes"] == ["warm", "cold"]
    assert record["counts"]["train"] == 36
    assert record["counts"]["missing"] == {"train": {"label_dropped": 1}}
    assert result.metrics["test_accuracy"] >= 0.9, result.metrics
    assert result.metrics["test_auc"] >= 0.9
    assert {"test_micro_f1", "test_exact_accuracy"} <= set(result.metrics)


def test_a_killed_run_and_two_devices_end_with_the_same(result, data, tmp_path, tiny_backbone):
    two = {"cluster.strategy": "mirrored", "cluster.replicas_per_rank": 2}
    for name, more in (("killed", mischief(tmp_path / "killed", at=40)), ("two", two)):
        (tmp_path / name).mkdir()
        spec = write_spec(tmp_path / name, tiny_backbone, data, **changes(data) | more)
        command = ("run", str(spec), "--run-dir", str(tmp_path / name / "run"))
        code, _, err = call(*command)
        if name == "killed":
            assert code == -9
            code, _, err = call(*command)
        assert code == 0, err
    assert_same_result(result.path, tmp_path / "killed" / "run")
    one, other = (lines(run / "metrics.jsonl") for run in (result.path, tmp_path / "two" / "run"))
    assert len(one) == len(other) > 30
    for line, its in zip(one, other, strict=True):
        np.testing.assert_allclose(line["loss"], its["loss"], rtol=1e-5)
        assert line["accuracy"] == its["accuracy"]
        assert line["auc"] == its["auc"]


def test_predict_and_export_say_the_same(result, data, tmp_path, capsys):
    pictures = [data / "pictures" / label / "015.png" for label in ("blue", "green")]
    names = list(map(str, pictures))
    assert main(["predict", str(result.path), *names, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["labels"] for one in said] == [["cold"], []]
    assert main(["predict", str(result.path), *names]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[1:3] == ["cold:", "cold"]
    assert printed[1].split()[1] == "none:"
    assert main(["export", str(result.path), "--to", str(tmp_path / "model")]) == 0
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    answer = served(encoded=tf.constant([one.read_bytes() for one in pictures]))
    for row, one in enumerate(said):
        given = list(one["probabilities"].values())
        assert answer["probabilities"].numpy()[row].tolist() == pytest.approx(given, abs=1e-5)
        assert answer["present"].numpy()[row].tolist() == [p >= 0.5 for p in given]
    assert main(["evaluate", str(result.path), "--json"]) == 0
    assert "auc" in capsys.readouterr().out


def test_inspect_counts_each_label_by_itself(data, tmp_path, tiny_backbone, capsys):
    spec = write_spec(tmp_path, tiny_backbone, data, **changes(data))
    assert main(["inspect", str(spec), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["examples"], found["counts"]) == (36, {"warm": 12, "cold": 18})
    assert main(["inspect", str(spec)]) == 0
    printed = capsys.readouterr().out
    assert "36 examples of 2 labels" in printed
    assert "50.0%" in printed


def test_an_uncertain_value_that_nothing_explains_and_a_folder_are_refused(
    tmp_path, tiny_backbone, data
):
    spec = write_spec(tmp_path, tiny_backbone, data, **changes(data) | {"data.uncertain": None})
    with pytest.raises(DataError, match="neither present nor absent"):
        harness.run(spec, run_dir=tmp_path / "a", quiet=True)
    more = {"data.test": str(data / "pictures"), "data.columns": {"labels": ["warm", "cold"]}}
    spec = write_spec(tmp_path, tiny_backbone, data, **changes(data) | more)
    with pytest.raises(DataError, match="is no manifest"):
        harness.run(spec, run_dir=tmp_path / "b", quiet=True)
