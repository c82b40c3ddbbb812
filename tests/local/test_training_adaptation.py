"""Runs that adapt to a target: killed and continued, refused other data, and used afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.errors import DataError
from harness.runs.paths import RunPaths
from harness.spec import Trust
from harness.worker.load import load_run
from tests.local.training_helpers import (
    CLASSES,
    assert_same_result,
    call,
    final_tensors,
    lines,
    mischief,
    write_spec,
)

SIDE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 12, SIDE)
    write_pictures(folder / "test", CLASSES, 4, SIDE)
    # Of a length that divides neither the batch nor the source's, and one that cannot be read.
    write_pictures(folder / "target", ["any"], 19, SIDE)
    (folder / "target" / "any" / "zz.png").write_bytes(b"no picture")
    return folder


def write(folder: Path, backbone: Path, data: Path, method: str, **changes: Any) -> Path:
    adaptation = {"method": method, "target": str(data / "target")}
    phases = [{"name": "one", "epochs": 4, "learning_rate": 0.01}]
    mine = {"adaptation": adaptation, "data.corrupt": {"limit": "20%"}, "training.phases": phases}
    return write_spec(folder, backbone, data, **{**mine, **changes})


def run(spec: Path, run_dir: Path) -> tuple[int, str]:
    code, _, err = call("run", str(spec), "--run-dir", str(run_dir))
    return code, err


@pytest.fixture(scope="module")
def dann(tiny_backbone: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("dann")
    code, err = run(write(folder, tiny_backbone, data, "dann"), folder / "run")
    assert code == 0, err
    return folder / "run"


def test_a_run_records_its_target_and_shows_its_figures(dann: Path) -> None:
    record = json.loads((dann / "run.json").read_text())
    assert record["counts"]["target"] == 20
    assert record["data_digest"]["target"].startswith("metadata:")
    assert record["counts"]["corrupt"] == 1
    (corrupt,) = lines(dann / "corrupt.jsonl")
    assert corrupt["split"] == "target"
    for line in lines(dann / "metrics.jsonl"):
        own = {name for name in line if name in ("adaptation_loss", "domain_accuracy")}
        assert len(own) == (2 if line["split"] == "train" else 0)
    assert {"model/domain_dense/kernel", "model/domain_output/bias"} <= final_tensors(dann).keys()


def test_killed_and_continued_it_ends_with_the_same_bits(
    dann: Path, tiny_backbone: Path, data: Path, tmp_path: Path
) -> None:
    """In the midst of the source's epochs, and of the target's, which are shorter."""
    spec = write(tmp_path, tiny_backbone, data, "dann", **mischief(tmp_path, at=7))
    assert run(spec, tmp_path / "run")[0] == -9
    code, err = run(spec, tmp_path / "run")
    assert code == 0, err
    assert_same_result(dann, tmp_path / "run")


def test_the_model_itself_is_without_the_classifier_of_domains(dann: Path) -> None:
    """Which predict and export use; checkpoints have it."""
    model = load_run(RunPaths(dann), Trust()).model
    assert [name for name in model.state() if name.startswith("domain_")]
    assert not [weight.name for weight in model.keras.weights if "domain_" in weight.name]


@pytest.fixture(scope="module")
def adabn(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run with a frozen application of Keras, whose norms get other statistics at the end."""
    folder = tmp_path_factory.mktemp("adabn")
    spec = write(
        folder,
        folder,
        data,
        "adabn",
        **{
            "backbone.handle": "keras:MobileNet",
            "backbone.weights": str(weights(folder)),
            "data.image_size": SIDE,
            "head": {"hidden": [8], "batch_norm": True},
            "training.deterministic": False,
            "training.phases": [{"name": "one", "epochs": 1, "learning_rate": 0.01}],
        },
    )
    harness.run(spec, run_dir=folder / "run", quiet=True)
    return folder / "run", spec


def weights(folder: Path) -> Path:
    import tf_keras

    tf_keras.utils.set_random_seed(7)
    model = tf_keras.applications.MobileNet((SIDE, SIDE, 3), include_top=False, weights=None)
    model.save_weights(str(folder / "mobilenet.weights.h5"))
    return folder / "mobilenet.weights.h5"


def test_new_statistics_are_saved_beside_the_weights_of_training(
    adabn: tuple[Path, Path],
) -> None:
    import tensorflow as tf

    root, _ = adabn
    record = json.loads((root / "run.json").read_text())
    (folder,) = (root / "adapted").glob("step-*")
    assert record["adapted"] == {"step": int(folder.name.split("-")[1]), "norms": 28}
    reader = tf.train.load_checkpoint(str(folder / "tensors"))
    shapes = reader.get_variable_to_shape_map()
    moving = [name for name in shapes if "moving_" in name]
    assert len(moving) == 2 * 28
    own, trained = reader.get_tensor, final_tensors(root)
    # The head's weights are those of training, and its statistics are not.
    np.testing.assert_array_equal(
        own("model/head_dense_0/kernel"), trained["model/head_dense_0/kernel"]
    )
    name = "model/head_norm_0/moving_mean"
    assert not np.array_equal(own(name), trained[name])
    assert not any("conv" in name for name in trained), "frozen, it is in no checkpoint of training"
    first = own("model/conv1_bn/moving_mean")
    assert np.abs(first).max() > 0 and np.isfinite(first).all()


def test_what_is_used_afterwards_has_them(adabn: tuple[Path, Path]) -> None:
    root, _ = adabn
    record = json.loads((root / "run.json").read_text())
    loss = load_run(RunPaths(root), Trust()).evaluate(None)["loss"]
    assert loss == pytest.approx(record["final"]["test_loss"], rel=1e-5)
    # The weights of a step that is asked for are as training saved them.
    plain = load_run(RunPaths(root), Trust(), step=record["adapted"]["step"])
    assert abs(plain.evaluate(None)["loss"] - loss) > 1e-3


def test_a_changed_target_is_refused_and_an_end_is_repeated(
    adabn: tuple[Path, Path], data: Path
) -> None:
    root, spec = adabn
    before = json.loads((root / "run.json").read_text())["final"]
    (root / "FINISHED").unlink()  # as if it had been killed before its last line
    harness.run(spec, run_dir=root, quiet=True)
    assert json.loads((root / "run.json").read_text())["final"] == before
    (root / "FINISHED").unlink()
    extra = data / "target" / "any" / "new.png"
    extra.write_bytes((data / "target" / "any" / "000.png").read_bytes())
    with pytest.raises(DataError, match="the target data have changed since the run began"):
        harness.run(spec, run_dir=root, quiet=True)
    extra.unlink()
