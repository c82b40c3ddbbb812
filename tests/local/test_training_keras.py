"""Runs with an application of Keras as backbone, whose norms may learn over all replicas."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.horovod_here import need_horovod
from tests.local.rank_helpers import assert_all, group, start_ranks
from tests.local.training_helpers import (
    CLASSES,
    assert_equal_losses,
    call,
    final_tensors,
    write_spec,
)

SIDE = 32
PHASES = [
    {"name": "head", "epochs": 1, "learning_rate": 0.01},
    {
        "name": "top",
        "epochs": 2,
        "unfreeze": "last:2",
        "backbone_mode": "training",
        "learning_rate": 0.001,
    },
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 11, SIDE)
    write_pictures(folder / "test", CLASSES, 4, SIDE)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights of MobileNet."""
    import tf_keras

    tf_keras.utils.set_random_seed(7)
    model = tf_keras.applications.MobileNet((SIDE, SIDE, 3), include_top=False, weights=None)
    file = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    model.save_weights(str(file))
    return file


def write(folder: Path, weights: Path | str, data: Path, **changes: Any) -> Path:
    changes = {
        "backbone.handle": "keras:MobileNet",
        "backbone.weights": str(weights),
        "data.image_size": SIDE,
        "data.augment": {},
        "head": {"hidden": []},
        "training.phases": PHASES,
        "training.deterministic": False,
        "checkpoint.keep": 9,
        **changes,
    }
    return write_spec(folder, folder, data, **changes)


@pytest.fixture(scope="module")
def alone(weights: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    spec = write(folder, weights, data)
    code, _, err = call("run", str(spec), "--run-dir", str(folder / "run"))
    assert code == 0, err
    return folder / "run"


def test_what_is_unfrozen_learns_and_its_norms_move(alone: Path, weights: Path) -> None:
    import tf_keras

    record = json.loads((alone / "run.json").read_text())
    assert record["backbone"] == "keras:MobileNet"
    assert len(record["backbone_digest"]) == 64
    top = record["trained"][1]
    assert top["blocks"] == ["conv_dw_13", "conv_pw_13"]
    before = {
        weight.name.split(":")[0]: weight.numpy()
        for weight in _application(tf_keras, weights).weights
    }
    after = {
        name.removeprefix("model/"): value
        for name, value in final_tensors(alone).items()
        if name.startswith("model/") and "head" not in name
    }
    moved = {name for name in after if not np.array_equal(after[name], before[name])}
    layers = {name.rpartition("/")[0] for name in moved}
    assert {"conv_pw_13", "conv_pw_13_bn"} <= layers
    assert "conv_pw_13_bn/moving_mean" in moved
    assert not any(name.startswith(("conv1", "conv_dw_1/", "conv_pw_1_")) for name in moved)


def _application(tf_keras: Any, weights: Path) -> Any:
    model = tf_keras.applications.MobileNet((SIDE, SIDE, 3), include_top=False, weights=None)
    model.load_weights(str(weights))
    return model


def test_it_is_evaluated_and_exported(alone: Path, tmp_path: Path) -> None:
    record = json.loads((alone / "run.json").read_text())
    code, out, err = call("evaluate", str(alone), "--json")
    assert code == 0, err
    figures = json.loads(out)["metrics"]
    assert figures["loss"] == pytest.approx(record["final"]["test_loss"], rel=1e-5)
    code, _, err = call("export", str(alone), "--to", str(tmp_path / "export"))
    assert code == 0, err


@pytest.mark.parametrize("strategy", ["mirrored", "horovod", "multiworker"])
def test_norms_that_learn_give_the_losses_of_one_replica(
    strategy: str, alone: Path, weights: Path, data: Path, tmp_path: Path
) -> None:
    spec = write(tmp_path, weights, data)
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"), "-o")
    if strategy == "mirrored":
        more = ("cluster.strategy=mirrored", "-o", "cluster.replicas_per_rank=2")
        code, _, err = call(*command, *more)
        assert code == 0, err
    else:
        if strategy == "horovod":
            need_horovod("gloo")
        with group(tmp_path / "logs") as started:
            run = [sys.executable, "-m", "harness", *command, f"cluster.strategy={strategy}"]
            start_ranks(started, 2, run)
            assert_all(started.ended())
    assert_equal_losses(alone, tmp_path / "run", relative=1e-4)


def test_other_weights_are_not_the_ones_of_the_run(
    alone: Path, weights: Path, data: Path, tmp_path: Path
) -> None:
    """The run goes on with the file that it names; what is in it now is something else."""
    import tf_keras

    spec = write(tmp_path, tmp_path / "w.weights.h5", data, **{"training.phases": PHASES[:1]})
    (tmp_path / "w.weights.h5").write_bytes(weights.read_bytes())
    code, _, err = call("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert code == 0, err
    tf_keras.utils.set_random_seed(8)
    other = tf_keras.applications.MobileNet((SIDE, SIDE, 3), include_top=False, weights=None)
    other.save_weights(str(tmp_path / "w.weights.h5"))
    code, _, err = call("evaluate", str(tmp_path / "run"))
    assert code == 4
    assert "the backbone is not the one that the run pins" in err
    assert "Traceback" not in err
