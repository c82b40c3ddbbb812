"""From Python: a run, its files, its predictions and its export."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.cli.main import main
from tests.local.training_helpers import CLASSES, lines, write_spec


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 12, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


@pytest.fixture(scope="module")
def result(tmp_path_factory, tiny_backbone, data) -> harness.Result:
    folder = tmp_path_factory.mktemp("use")
    spec = write_spec(folder, tiny_backbone, data, **{"logging.images": True})
    # NamedTuple-like result of the whole: nothing else of the run is kept in memory.
    return harness.run(spec, run_dir=folder / "run", quiet=True)


@pytest.mark.core
def test_the_record_says_what_was_trained_on_what(result):
    record = json.loads((result.path / "run.json").read_text())
    assert result.state == "finished"
    assert record["final"]["test_accuracy"] == result.metrics["test_accuracy"]
    versions = {name.replace("-", "_") for name in record["versions"]}
    assert {"tensorflow", "tf_keras", "numpy"} <= versions
    assert record["classes"] == sorted(CLASSES)
    assert record["counts"]["train"] + record["counts"]["validation"] == 36
    assert record["counts"]["test"] == 15
    assert len(record["backbone_digest"]) == 64
    assert set(record["data_digest"]) == {"train", "validation", "test"}
    assert record["trainable_variables"] == 4
    assert record["best"]["step"] in {line["step"] for line in lines(result.path / "metrics.jsonl")}
    assert record["exact"] is True
    assert (result.path / "FINISHED").exists()


def test_a_run_killed_before_its_last_mark_tests_again_and_says_so_once(result, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(result.path, copy)
    (copy / "FINISHED").unlink()
    again = harness.run(copy / "spec.yaml", run_dir=copy, quiet=True)
    assert again.metrics == result.metrics
    tested = [line for line in lines(copy / "metrics.jsonl") if line["split"] == "test"]
    assert [line["attempt"] for line in tested] == [2]
    assert tested[0]["weights_step"] == json.loads((copy / "run.json").read_text())["best"]["step"]


@pytest.mark.parametrize(
    ("access", "folder", "file"), [("private", 0o700, 0o600), ("group", 0o770, 0o660)]
)
def test_modes_of_a_run_and_its_export(access, folder, file, tmp_path, tiny_backbone, data):
    spec = write_spec(tmp_path, tiny_backbone, data, access=access)
    old = os.umask(0)
    try:
        result = harness.run(spec, run_dir=tmp_path / "run", quiet=True)
        assert main(["export", str(result.path)]) == 0
    finally:
        os.umask(old)
    for path in [result.path, *result.path.rglob("*")]:
        if "plugins" not in path.parts:
            wanted = folder if path.is_dir() else file
            assert path.stat().st_mode & 0o777 == wanted, (path, oct(path.stat().st_mode))


def test_every_line_has_its_place_and_every_epoch_its_validation(result):
    found = lines(result.path / "metrics.jsonl")
    for line in found:
        assert {"step", "epoch", "phase", "split", "attempt", "loss", "accuracy"} <= set(line)
    validated = [line["epoch"] for line in found if line["split"] == "val"]
    assert validated == [0, 1, 2, 3, 4, 5]
    assert [line["phase"] for line in found if line["split"] == "val"] == ["one"] * 3 + ["two"] * 3
    assert [line["split"] for line in found].count("test") == 1


@pytest.mark.core
def test_predictions_are_those_of_the_test_set(result, data):
    found = result.predict(data / "test")
    assert len(found) == 15
    right = sum(one.label == Path(one.file).parent.name for one in found)
    assert right / 15 == pytest.approx(result.metrics["test_accuracy"])
    for one in found:
        assert sum(one.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
        assert one.probability == max(one.probabilities.values())


def test_a_model_of_gpus_is_used_where_there_is_none(result, data, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(result.path, copy)
    spec = (copy / "spec.yaml").read_text()
    assert spec.count("device: cpu") == 1
    (copy / "spec.yaml").write_text(spec.replace("device: cpu", "device: gpu"))
    picture = str(data / "test" / "red" / "000.png")
    found = []
    for run in (result.path, copy):
        assert main(["predict", str(run), picture, "--json"]) == 0, capsys.readouterr().err
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]


def test_predict_and_evaluate_from_the_command_line(result, data, tmp_path, capsys):
    (tmp_path / "words.jpg").write_text("no picture")
    picture = data / "test" / "red" / "000.png"
    names = [str(picture), str(tmp_path / "words.jpg")]
    assert main(["predict", str(result.path), *names, "--json"]) == 4
    good, bad = json.loads(capsys.readouterr().out)
    assert good["label"] in CLASSES
    assert "error" in bad
    assert main(["predict", str(result.path), str(picture)]) == 0
    assert good["label"] in capsys.readouterr().out
    assert main(["evaluate", str(result.path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["metrics"]["accuracy"] == pytest.approx(result.metrics["test_accuracy"])
    assert main(["evaluate", str(result.path), "--data", str(data / "train"), "--json"]) == 0
    assert main(["predict", str(result.path), str(tmp_path / "nothing.png")]) == 4
    assert main(["predict", str(result.path), "--step", "9999", str(picture)]) == 5


# Another program, with nothing of harness: what it gives for files must be the run's own.
SERVE = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
files = tf.constant([open(name, "rb").read() for name in sys.argv[2:]])
answer = model.signatures["serving_default"](encoded=files)
assert "harness" not in sys.modules
labels = [label.decode() for label in answer["label"].numpy()]
print(json.dumps({"probabilities": answer["probabilities"].numpy().tolist(), "label": labels}))
"""


@pytest.mark.core
def test_the_export_serves_files_elsewhere_with_the_same_answers(result, data, tmp_path, capsys):
    assert main(["export", str(result.path), "--to", str(tmp_path / "model"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["largest_difference"] <= 1e-5
    names = [str(path) for path in sorted((data / "test").rglob("*.png"))]
    command = [sys.executable, "-c", SERVE, str(tmp_path / "model"), *names]
    served = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    own = result.predict(*names)
    assert served["label"] == [one.label for one in own]
    wanted = [[one.probabilities[name] for name in sorted(CLASSES)] for one in own]
    np.testing.assert_allclose(served["probabilities"], wanted, atol=1e-6)
    assert (tmp_path / "model" / "labels.txt").read_text().split() == sorted(CLASSES)
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["step"] == said["step"]
    assert main(["export", str(result.path), "--to", str(tmp_path / "model")]) == 2
    assert "taken" in capsys.readouterr().err


def test_the_preparation_in_the_export_is_that_of_validation_bit_for_bit(tmp_path):
    import tensorflow as tf

    from harness.data.decode import prepare_image
    from harness.data.index import folder_index
    from harness.data.pipeline import Feed

    random = np.random.default_rng(1)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            picture = random.integers(0, 256, (37, 53, 3), np.uint8)
            file = tf.io.encode_jpeg(picture).numpy()
            (tmp_path / name / f"{number}.jpg").write_bytes(file)
    batch = next(iter(Feed(folder_index(tmp_path)).evaluation(6, 24)))
    files = [path.read_bytes() for path in sorted(tmp_path.rglob("*.jpg"))]
    traced = tf.function(
        lambda encoded: tf.map_fn(
            lambda one: prepare_image(one, 24),
            encoded,
            fn_output_signature=tf.TensorSpec([24, 24, 3], tf.uint8),
        )
    )
    np.testing.assert_array_equal(batch["image"].numpy(), traced(tf.constant(files)).numpy())


def test_tensorboard_shows_curves_pictures_and_the_spec(result):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train = EventAccumulator(str(result.path / "tensorboard" / "train")).Reload()
    tags = train.Tags()
    assert {"epoch_loss", "epoch_accuracy", "batch_loss"} <= set(tags["scalars"] + tags["tensors"])
    assert any("inputs" in tag for tag in tags["images"] + tags["tensors"])
    assert any("spec" in tag for tag in tags["tensors"])


def test_sensitive_data_leave_no_name_and_no_picture(tmp_path, tiny_backbone, write_pictures):
    folder = tmp_path / "own"
    write_pictures(folder / "train", CLASSES, 8, 16)
    write_pictures(folder / "test", CLASSES, 4, 16)
    (folder / "train" / "red" / "000.png").rename(folder / "train" / "red" / "secretname.png")
    (folder / "train" / "red" / "secretname.png").write_bytes(b"broken")
    changes = {
        "data.sensitive": True,
        "logging.images": True,
        "data.corrupt": {"policy": "skip", "limit": "20%"},
    }
    spec = write_spec(tmp_path, tiny_backbone, folder, **changes)
    result = harness.run(spec, run_dir=tmp_path / "run", quiet=True)
    assert json.loads((result.path / "run.json").read_text())["counts"]["corrupt"] == 1
    for path in result.path.rglob("*"):
        if path.is_file():
            assert b"secretname" not in path.read_bytes(), path
        if "tfevents" in path.name:
            assert b"PNG" not in path.read_bytes(), path


def test_a_second_run_in_a_process_finds_the_cache_of_the_first(tmp_path, monkeypatch):
    from harness.worker.environment import cache_root, prepare

    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    environment = {"XDG_CACHE_HOME": str(tmp_path / "own")}
    first = prepare(environment, print)
    assert first == tmp_path / "own" / "harness"
    assert cache_root(environment, print) == first
    without = {"HOME": str(tmp_path)}
    monkeypatch.setenv("HOME", str(tmp_path))
    again = prepare(without, print)
    assert cache_root(without, print) == prepare(without, print) == again
