"""Runs whose phases train parts of the backbone: what moves, what stays, how they go on."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.local.training_helpers import (
    CLASSES,
    assert_same_result,
    call,
    checkpoint_steps,
    lines,
    mischief,
    write_spec,
)

PHASES = [
    {"name": "head", "epochs": 2, "learning_rate": 0.01},
    {
        "name": "top",
        "epochs": 2,
        "unfreeze": "last:1",
        "learning_rate": {"head": 0.004, "backbone": 0.002, "decay_per_block": 0.5},
    },
    {"name": "all", "epochs": 2, "unfreeze": "all", "learning_rate": 0.001, "start_from": "best"},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 4, 16)
    return folder


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hub module of three blocks with norms and dropout: [N, H, W, 3] to [N, 12]."""
    return save_module(tmp_path_factory.mktemp("backbone") / "module")


def save_module(folder: Path) -> Path:
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(1)
    pictures = x = tf_keras.Input((None, None, 3))
    for number in (1, 2, 3):
        name = f"block_{number}"
        x = tf_keras.layers.Conv2D(12, 3, 2, "same", use_bias=False, name=f"{name}_conv")(x)
        x = tf_keras.layers.BatchNormalization(name=f"{name}_bn", momentum=0.5)(x)
        x = tf_keras.layers.ReLU()(x)
    x = tf_keras.layers.Dropout(0.5)(tf_keras.layers.GlobalAveragePooling2D()(x))
    model = tf_keras.Model(pictures, x)

    @tf.function
    def apply(inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return model(inputs, training=training)

    made = tf.train.Checkpoint()
    made.__call__ = apply
    made.variables, made.trainable_variables = model.variables, model.trainable_variables
    made.regularization_losses = []
    for training in (True, False):
        apply.get_concrete_function(tf.TensorSpec((None, None, None, 3)), training=training)
    tf.saved_model.save(made, str(folder))
    return folder


def write(folder: Path, module: Path, data: Path, **changes: Any) -> Path:
    return write_spec(
        folder,
        module,
        data,
        **{"training.phases": PHASES, "checkpoint.every": "4 steps", **changes},
    )


@pytest.fixture(scope="module")
def undisturbed(module: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = write(folder, module, data, **{"checkpoint.keep": 100})
    code, _, err = call("run", str(spec), "--run-dir", str(folder / "run"))
    assert code == 0, err
    return folder / "run"


def tensors(run: Path, step: int) -> dict[str, np.ndarray]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"step-{step:08d}" / "tensors"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def pretrained(module: Path) -> dict[str, np.ndarray]:
    import tensorflow_hub as hub

    return {
        weight.name.split(":")[0]: weight.numpy() for weight in hub.KerasLayer(str(module)).weights
    }


def model_part(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.removeprefix("model/"): value
        for name, value in found.items()
        if name.startswith("model/") and not name.startswith("model/head")
    }


def test_each_phase_trains_what_it_says(undisturbed: Path, module: Path) -> None:
    """Frozen blocks are in no checkpoint; unfrozen ones move from where they were."""
    before = pretrained(module)
    first, second, last = (tensors(undisturbed, step) for step in (8, 16, 24))
    assert model_part(first) == {}
    top = {"block_3_conv/kernel", "block_3_bn/gamma", "block_3_bn/beta"}
    assert model_part(second).keys() == top
    everything = {
        f"block_{number}_{leaf}"
        for number in (1, 2, 3)
        for leaf in ("conv/kernel", "bn/gamma", "bn/beta")
    }
    assert model_part(last).keys() == everything  # never a moving average
    for name in top:
        assert np.abs(model_part(second)[name] - before[name]).max() > 1e-4, name
    moved = {
        name for name in everything if not np.array_equal(model_part(last)[name], before[name])
    }
    assert moved == everything
    slots = [name for name in first if name.startswith("optimizer/") and "block_" in name]
    assert slots == []
    assert [name for name in second if name.startswith("optimizer/") and "block_1" in name] == []
    assert [name for name in last if name.startswith("optimizer/") and "block_1" in name] != []


def test_the_record_and_the_plan_say_what_is_trained(undisturbed: Path, tmp_path: Path) -> None:
    record = json.loads((undisturbed / "run.json").read_text())
    trained = {each["phase"]: each for each in record["trained"]}
    assert trained["head"]["blocks"] == []
    assert trained["top"]["blocks"] == ["block_3"]
    assert trained["all"]["blocks"] == ["block_1", "block_2", "block_3"]
    head, top, every = (trained[name]["parameters"] for name in ("head", "top", "all"))
    assert top - head == 12 * 12 * 9 + 24
    assert every - head == (3 * 12 * 9) + 2 * (12 * 12 * 9) + 3 * 24
    assert record["parameters"]["trainable"] == every
    assert record["exact"] is True, record["not_exact_because"]  # its dropout rests
    code, out, err = call("plan", str(undisturbed / "spec.yaml"))
    assert code == 0, err
    assert "trains the head and last:1 of the backbone, this from 0.002, times 0.5" in out
    code, out, _ = call("plan", str(undisturbed / "spec.yaml"), "--json")
    assert [each["unfreeze"] for each in json.loads(out)["phases"]] == ["none", "last:1", "all"]


@pytest.mark.parametrize("at", [12, 19])
def test_killed_in_any_phase_it_ends_the_same(
    at: int, tmp_path: Path, module: Path, data: Path, undisturbed: Path
) -> None:
    spec = write(tmp_path, module, data, **mischief(tmp_path, at=at, number=9))
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert call(*command)[0] == -signal.SIGKILL
    code, _, err = call(*command)
    assert code == 0, err
    assert_same_result(undisturbed, tmp_path / "run")


def test_best_weights_of_an_early_phase_are_used_as_they_were(
    tmp_path: Path, module: Path, data: Path
) -> None:
    """What only later phases train goes back to the pretrained weights, in the run and after it."""
    ruin = {"name": "ruin", "epochs": 1, "unfreeze": "all", "learning_rate": 50.0}
    back = {"name": "back", "epochs": 1, "learning_rate": 1e-30, "start_from": "best"}
    good = {"name": "good", "epochs": 3, "learning_rate": 0.01}
    changes = {"training.phases": [good, ruin, back], "checkpoint.best.metric": "val_loss"}
    spec = write(tmp_path, module, data, **changes)
    run = tmp_path / "run"
    code, _, err = call("run", str(spec), "--run-dir", str(run))
    assert code == 0, err
    record = json.loads((run / "run.json").read_text())
    assert record["best"]["step"] <= 12
    val = {
        line["phase"]: line["loss"]
        for line in lines(run / "metrics.jsonl")
        if line["split"] == "val"
    }
    assert val["ruin"] > 2 * val["good"]
    assert val["back"] == pytest.approx(record["best"]["value"], rel=1e-5)
    code, out, err = call("evaluate", str(run), "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"]["loss"] == pytest.approx(
        record["final"]["test_loss"], rel=1e-5
    )


def test_training_mode_moves_the_averages_and_inference_does_not(
    tmp_path: Path, module: Path, data: Path
) -> None:
    phase = {"name": "all", "epochs": 1, "unfreeze": "last:1", "backbone_mode": "training"}
    spec = write(
        tmp_path, module, data, **{"training.phases": [phase], "training.deterministic": False}
    )
    run = tmp_path / "run"
    code, _, err = call("run", str(spec), "--run-dir", str(run))
    assert code == 0, err
    before, after = pretrained(module), model_part(tensors(run, 4))
    averages = [name for name in before if "moving" in name]
    assert len(averages) == 6
    for name in averages:
        assert np.abs(after[name] - before[name]).max() > 1e-4, name
    np.testing.assert_array_equal(after["block_1_conv/kernel"], before["block_1_conv/kernel"])
    record = json.loads((run / "run.json").read_text())
    assert record["exact"] is False  # a SavedModel's dropout draws from hidden state
    assert "hidden state" in " ".join(record["not_exact_because"])


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ({"unfreeze": "last:99"}, "training.phases.0.unfreeze: the backbone has 3 blocks"),
        ({"unfreeze": "layer_[0-9]"}, "no variable of the backbone has such a name"),
    ],
)
def test_what_the_backbone_lacks_is_said_before_training(
    phase: dict[str, Any], words: str, tmp_path: Path, module: Path, data: Path
) -> None:
    phases = [{"name": "one", "epochs": 1, **phase}]
    spec = write(tmp_path, module, data, **{"training.phases": phases})
    code, _, err = call("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "checkpoints").exists() or not checkpoint_steps(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["training.phases.1.unfreeze=all"], "training.phases.1.unfreeze: the checkpoint of step"),
        (['training.phases=[{"name": "x", "epochs": 1}]'], "is of phase 3, all"),
    ],
)
def test_a_fork_trains_what_its_checkpoint_holds(
    changes: list[str], words: str, tmp_path: Path, undisturbed: Path
) -> None:
    overrides = [part for change in changes for part in ("-o", change)]
    code, _, err = call("fork", str(undisturbed), "--run-dir", str(tmp_path / "run"), *overrides)
    assert code == 2, err
    assert words in err
    assert "Traceback" not in err


def test_a_fork_of_an_early_phase_may_go_another_way(tmp_path: Path, undisturbed: Path) -> None:
    run = tmp_path / "run"
    code, _, err = call(
        "fork", str(undisturbed), "--run-dir", str(run), "--step", "8",
        "-o", "training.phases.1.unfreeze=block_2", "-o", "training.phases.2.epochs=1",
    )  # fmt: skip
    assert code == 0, err
    code, _, err = call("run", str(run / "spec.yaml"), "--run-dir", str(run))
    assert code == 0, err
    record = json.loads((run / "run.json").read_text())
    assert record["trained"][1]["blocks"] == ["block_2"]


def test_what_a_callback_ends_early_stays_in_its_phase(
    tmp_path: Path, module: Path, data: Path
) -> None:
    """No checkpoint says that it is of a phase that was never entered."""
    (tmp_path / "ender.py").write_text(
        "import tf_keras\n"
        "from harness.plugins import register\n\n"
        "@register('callback', 'ender')\n"
        "class Ender(tf_keras.callbacks.Callback):\n"
        "    def on_epoch_end(self, epoch, logs=None):\n"
        "        self.model.stop_training = True\n\n"
        "    def get_state(self):\n        return {}\n\n"
        "    def set_state(self, state):\n        pass\n"
    )
    changes = {
        "plugins": [str(tmp_path / "ender.py")],
        "training.callbacks": ["plugin:ender"],
    }
    run = tmp_path / "run"
    code, _, err = call("run", str(write(tmp_path, module, data, **changes)), "--run-dir", str(run))
    assert code == 0, err
    (state,) = (run / "checkpoints").glob("step-*/state.json")
    assert json.loads(state.read_text())["position"]["phase"] == 0
