"""A user's own parts take effect, and those that cannot be repeated are found out."""

from __future__ import annotations

import json
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
    ],
)
def test_plugins_that_do_not_fit(changes, words, tmp_path, tiny_backbone, data):
    spec = own_parts(tmp_path, tiny_backbone, data, **changes)
    with pytest.raises(harness.errors.UsageError, match=words):
        harness.run(spec, run_dir=tmp_path / "run", quiet=True)
