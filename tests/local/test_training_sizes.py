"""Runs whose phases have other pictures and other batches: progressive resizing."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.local.training_helpers import (
    CLASSES,
    assert_same_result,
    call,
    lines,
    mischief,
    write_spec,
)

PHASES = [
    {"name": "small", "epochs": 2, "image_size": 12, "batch_size": 16, "learning_rate": 0.01},
    {"name": "middle", "epochs": 1, "image_size": 16, "learning_rate": 0.01},
    {"name": "large", "epochs": 1, "image_size": 24, "batch_size": 4, "unfreeze": "all"},
]
STEPS = {"small": (2, 4), "middle": (4, 8), "large": (8, 16)}
"""Of 30 pictures by phase: steps of an epoch, and at the phase's end."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 4, 16)
    return folder


def write(folder: Path, module: Path, data: Path, **changes: Any) -> Path:
    changes = {"training.phases": PHASES, "data.cache": "memory", **changes}
    return write_spec(folder, module, data, **changes)


@pytest.fixture(scope="module")
def undisturbed(tiny_backbone: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = write(folder, tiny_backbone, data)
    code, _, err = call("run", str(spec), "--run-dir", str(folder / "run"))
    assert code == 0, err
    return folder / "run"


def test_each_phase_has_its_steps(undisturbed: Path) -> None:
    found = lines(undisturbed / "metrics.jsonl")
    ends = {line["phase"]: line["step"] for line in found if line["split"] == "val"}
    assert ends == {"small": 4, "middle": 8, "large": 16}
    code, out, err = call("plan", str(undisturbed / "spec.yaml"), "--json")
    assert code == 0, err
    planned = json.loads(out)
    assert [each["steps_per_epoch"] for each in planned["phases"]] == [2, 4, 8]
    assert [each["image_size"] for each in planned["phases"]] == [12, 16, 24]
    assert [each["batch_size"] for each in planned["phases"]] == [16, 8, 4]
    assert planned["total_steps"] == 16
    assert planned["estimates"]["batch_bytes_to_device"] == 3 * max(16 * 144, 8 * 256, 4 * 576)


def test_weights_are_used_at_the_size_of_their_phase(undisturbed: Path, tmp_path: Path) -> None:
    record = json.loads((undisturbed / "run.json").read_text())
    best = record["best"]["step"]
    size = 12 if best <= 4 else 16 if best <= 8 else 24
    code, out, err = call("evaluate", str(undisturbed), "--json")
    assert code == 0, err
    used = json.loads(out)["metrics"]["loss"]
    assert used == pytest.approx(record["final"]["test_loss"], rel=1e-5)
    code, _, err = call("export", str(undisturbed), "--to", str(tmp_path / "export"))
    assert code == 0, err
    (card,) = (tmp_path / "export").rglob("card.json")
    assert json.loads(card.read_text())["image_size"] == size


@pytest.mark.parametrize("at", [3, 11])
def test_killed_in_a_phase_it_ends_the_same(
    at: int, tmp_path: Path, tiny_backbone: Path, data: Path, undisturbed: Path
) -> None:
    spec = write(tmp_path, tiny_backbone, data, **mischief(tmp_path, at=at, number=9))
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert call(*command)[0] == -signal.SIGKILL
    code, _, err = call(*command)
    assert code == 0, err
    assert_same_result(undisturbed, tmp_path / "run")


def test_a_fixed_module_refuses_another_size_of_a_phase(tmp_path: Path, data: Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32)])
    def call_(pictures: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(pictures, [1, 2])

    module = tf.train.Checkpoint()
    module.__call__ = call_
    module.variables = module.trainable_variables = module.regularization_losses = []
    tf.saved_model.save(module, str(tmp_path / "fixed"))
    spec = write(tmp_path, tmp_path / "fixed", data)
    code, _, err = call("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert code == 2
    assert "training.phases.0.image_size: the backbone does not take these images" in err
    assert "[batch, 12, 12, 3]" in err and "[None, 16, 16, 3]" in err
    assert "Traceback" not in err
