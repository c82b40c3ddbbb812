"""Runs on backbones that give feature maps, on models that users have saved, and on texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tf_keras
import yaml

from harness.cli.main import main
from tests.local.training_helpers import CLASSES, record, write_spec
from tests.local.training_helpers import run_here as run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


def write(folder: Path, backbone: Path, data: Path, **changes: Any) -> Path:
    chosen = {"training.feature_cache": "auto", "data.augment": {}, **changes}
    return write_spec(folder, backbone, data, **chosen)


def test_feature_maps_are_pooled_before_they_are_kept(data: Path, tmp_path: Path) -> None:
    """Of a module that gives a map; without ``head.pooling`` it is refused."""
    tf_keras.utils.set_random_seed(1)
    pictures = tf_keras.Input((None, None, 3))
    model = tf_keras.Model(pictures, tf_keras.layers.Conv2D(12, 3, 2, activation="relu")(pictures))
    module = tf.Module()
    module.model = model
    module.__call__ = tf.function(
        lambda x, training=False: model(x),
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)],
    )
    tf.saved_model.save(module, str(tmp_path / "maps"))
    spec = write(tmp_path, tmp_path / "maps", data)
    assert "head.pooling" in run(spec, tmp_path / "cache", code=4)
    (tmp_path / "pooled").mkdir()
    pooled = write(
        tmp_path / "pooled",
        tmp_path / "maps",
        data,
        **{"head.pooling": "max"},
    )
    run(pooled, tmp_path / "cache")
    assert record(pooled)["feature_cache"]["train"]["shape"] == [12]
    assert main(["export", str(tmp_path / "pooled" / "run"), "--to", str(tmp_path / "x")]) == 0


def test_an_own_model_is_a_backbone(data: Path, tmp_path: Path) -> None:
    """Cut at a layer: its features are kept, then a part of it is trained; never a stranger's."""
    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential(
        [
            tf_keras.Input((16, 16, 3)),
            tf_keras.layers.Conv2D(6, 3, activation="relu", name="first"),
            tf_keras.layers.GlobalAveragePooling2D(name="pooled"),
            tf_keras.layers.Dense(9, "relu", name="features"),
            tf_keras.layers.Dense(5, "softmax", name="classes"),
        ]
    )
    own = tmp_path / "own.h5"
    model.save(str(own))
    own.chmod(0o600)
    phases = [
        {"name": "head", "epochs": 2, "learning_rate": 0.01},
        {"name": "top", "epochs": 1, "learning_rate": 0.01, "unfreeze": "features"},
    ]
    changes = {"backbone.handle": f"model:{own}", "backbone.output": "features"}
    spec = write(tmp_path, own, data, **changes, **{"training.phases": phases})
    assert "features of the train and validation examples computed" in run(spec, tmp_path / "cache")
    assert record(spec)["feature_cache"]["train"]["shape"] == [9]
    assert record(spec)["trained"][1]["variables"] == record(spec)["trained"][0]["variables"] + 2
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert main(["inspect", f"model:{own}"]) == 0
    own.chmod(0o666)
    other = write(tmp_path, own, data, **changes)
    assert "others may write" in run(
        other, tmp_path / "cache", "--run-dir", str(tmp_path / "2"), code=4
    )


def test_texts_are_computed_once_too_and_looked_through_once(
    tiny_text_backbone: Path, tmp_path: Path
) -> None:
    """They have no size of pictures, by which a phase is known to have been entered."""
    for name, first in (("train", 0), ("test", 100)):
        numbers = range(first, first + 20)
        rows = [f"{word} number {n}\t{word}" for word in ("cat", "dog") for n in numbers]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["what\tlabel", *rows]) + "\n")
    spec = write(tmp_path, tiny_text_backbone, tmp_path, task="text_classification")
    chosen = yaml.safe_load(spec.read_text())
    chosen["data"] = {
        "train": str(tmp_path / "train.tsv"),
        "validation": {"fraction": 0.25},
        "test": str(tmp_path / "test.tsv"),
        "columns": {"text": "what", "label": "label"},
    }
    spec.write_text(yaml.safe_dump(chosen))
    said = run(spec, tmp_path / "cache")
    assert said.count("computes the features") == 2
    assert said.count("examples found") == 1  # by the second phase, and not for the test again
    assert record(spec)["feature_cache"]["train"]["shape"] == [16]
