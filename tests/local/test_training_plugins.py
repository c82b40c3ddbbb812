"""A user's own parts take effect, and those that cannot be repeated are found out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import harness
from harness.errors import SpecError
from tests.local.training_helpers import CLASSES, lines, write_spec

PARTS = """
import tensorflow as tf
import tf_keras
from harness.plugins import register

@register("head", "keras_dropout")
def keras_dropout(features, outputs, draws):
    return tf_keras.layers.Dense(outputs)(tf_keras.layers.Dropout(0.2)(features))

@register("head", "wrong_width")
def wrong_width(features, outputs, draws):
    return tf_keras.layers.Dense(outputs + 1)(features)

@register("augmentation", "hidden_noise")
def hidden_noise(image, seed):
    return image + tf.random.normal(tf.shape(image))

@register("backbone", "random_projection")
def random_projection(image_size):
    images = tf_keras.Input((image_size, image_size, 3))
    x = tf_keras.layers.Flatten()(images)
    return tf_keras.Model(images, tf_keras.layers.Dense(8, kernel_initializer="random_normal")(x))

@register("callback", "stops_in_an_epoch")
class StopsInAnEpoch(tf_keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) >= 4:
            self.model.stop_training = True
    def get_state(self):
        return {}
    def set_state(self, state):
        pass

@register("metric", "accuracy")
def accuracy(labels, probabilities):
    return tf.zeros_like(labels)

@register("callback", "forgetful")
class Forgetful(tf_keras.callbacks.Callback):
    pass

@register("callback", "no_callback")
def no_callback():
    return object()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 8, 16)
    write_pictures(folder / "test", CLASSES, 4, 16)
    return folder


@pytest.mark.core
def test_one_plugin_of_every_kind(tmp_path, root, write_pictures):
    """The example that ships, on pictures of the test's own."""
    write_pictures(tmp_path / "folders", CLASSES, 12, 32)
    for split, wanted in (("train", range(9)), ("test", range(9, 12))):
        (tmp_path / split).mkdir()
        for name in CLASSES:
            for number in wanted:
                picture = tmp_path / "folders" / name / f"{number:03d}.png"
                picture.rename(tmp_path / split / f"{name}_{number}.png")
    result = harness.run(
        root / "jobs" / "plugins_example.yaml",
        overrides={
            "data.train": str(tmp_path / "train"),
            "data.test": str(tmp_path / "test"),
            "data.validation": {"fraction": 0.3},
            "training.batch_size": 4,
            "training.phases.0.epochs": 30,
        },
        run_dir=tmp_path / "run",
        quiet=True,
    )
    record = json.loads((result.path / "run.json").read_text())
    assert result.state == "finished"
    assert record["classes"] == sorted(CLASSES)  # the source
    assert record["backbone"] == "plugin:colour_moments"
    assert record["parameters"]["backbone"] == 0
    assert result.metrics["test_top_k"] >= result.metrics["test_accuracy"]  # the metric
    epochs = {line["epoch"] for line in lines(result.path / "metrics.jsonl")}
    assert len(epochs) < 30  # the callback
    assert record["exact"] is True
    assert [entry["file"] for entry in record["plugins"]] == ["plugins/plugins_example.py"]
    found = result.predict(tmp_path / "test")
    right = sum(one.label == Path(one.file).name.split("_")[0] for one in found)
    assert right / len(found) == pytest.approx(result.metrics["test_accuracy"])


def own_parts(tmp_path: Path, tiny_backbone: Path, data: Path, **changes) -> Path:
    (tmp_path / "parts.py").write_text(PARTS)
    changes = {"plugins": [str(tmp_path / "parts.py")], **changes}
    return write_spec(tmp_path, tiny_backbone, data, **changes)


def test_the_weights_of_a_plugin_backbone_are_kept(tmp_path, tiny_backbone, data, capsys):
    """Nothing else stands for them, as a digest does for a Hub module's."""
    changes = {"backbone.handle": "plugin:random_projection"}
    spec = own_parts(tmp_path, tiny_backbone, data, **changes)
    result = harness.run(spec, run_dir=tmp_path / "run", quiet=True)
    command = [sys.executable, "-m", "harness", "evaluate", str(result.path), "--json"]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert said["metrics"]["loss"] == pytest.approx(result.metrics["test_loss"], rel=1e-6)


def test_a_stop_in_the_midst_of_an_epoch_still_ends_it(tmp_path, tiny_backbone, data):
    """As in Model.fit, which validates and calls on_epoch_end before it leaves."""
    changes = {"training.callbacks": ["plugin:stops_in_an_epoch"]}
    spec = own_parts(tmp_path, tiny_backbone, data, **changes)
    result = harness.run(spec, run_dir=tmp_path / "run", quiet=True)
    found = lines(result.path / "metrics.jsonl")
    last = max(line["step"] for line in found)
    assert {line["split"] for line in found if line["step"] == last} == {"train", "val", "test"}
    assert {line["phase"] for line in found} <= {"one", "two"}
    assert result.state == "finished"


HIDDEN = [
    ({"head": {"plugin": "plugin:keras_dropout"}}, "its own state"),
    ({"data.augment": {"plugins": ["plugin:hidden_noise"]}}, "augmentation hidden_noise"),
    ({"training.callbacks": ["plugin:forgetful"]}, "callback forgetful"),
]


@pytest.mark.parametrize(("changes", "words"), HIDDEN, ids=["head", "augmentation", "callback"])
def test_what_cannot_be_repeated_is_said_or_refused(changes, words, tmp_path, tiny_backbone, data):
    spec = own_parts(tmp_path, tiny_backbone, data, **changes)
    with pytest.raises(SpecError, match=words):
        harness.run(spec, run_dir=tmp_path / "strict", quiet=True)
    settings = yaml.safe_load(spec.read_text())
    settings["training"]["deterministic"] = False
    result = harness.run(settings, run_dir=tmp_path / "lax", quiet=True)
    record = json.loads((result.path / "run.json").read_text())
    assert record["exact"] is False
    assert any(words in reason for reason in record["not_exact_because"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head": {"plugin": "plugin:wrong_width"}}, "gives no .batch, outputs. tensor"),
        ({"training.callbacks": ["plugin:no_callback"]}, "gives no Keras callback"),
        ({"head": {"plugin": "plugin:unheard_of"}}, "no plug-in of kind head"),
        ({"training.metrics": ["plugin:accuracy"]}, "a name that is taken"),
    ],
)
def test_plugins_that_do_not_fit(changes, words, tmp_path, tiny_backbone, data):
    spec = own_parts(tmp_path, tiny_backbone, data, **changes)
    with pytest.raises(harness.errors.UsageError, match=words):
        harness.run(spec, run_dir=tmp_path / "run", quiet=True)
