"""Runs in 16 bits and runs compiled by XLA: what they compute in, and that they go on exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.cli.main import main
from harness.distribute.units import cpu_flags
from harness.errors import ExitCode, SpecError
from tests.local.training_helpers import (
    CLASSES,
    assert_same_result,
    call,
    final_tensors,
    lines,
    write_spec,
)

# TensorFlow's oneDNN kernels for bfloat16 need one of these, whether or not they are fast there.
BF16 = pytest.mark.skipif(
    cpu_flags().isdisjoint({"avx512f", "amx_bf16", "bf16"}),
    reason="TensorFlow does not compute in bfloat16 on this CPU",
)
SHORT: dict[str, Any] = {
    "training.phases": [
        {"name": "head", "epochs": 1, "learning_rate": 0.01},
        {"name": "all", "epochs": 1, "learning_rate": 0.001, "unfreeze": "all"},
    ],
    "data.test": None,
    "head.dropout": 0.0,
    "training.feature_cache": "off",
}

THROUGH_TEXTS = """
import tensorflow as tf
import tf_keras
from harness.plugins import register

@register("head", "through_texts")
def head(features, outputs, draws):
    def read(x):
        return x + 0.0 * tf.strings.to_number(tf.strings.as_string(tf.stop_gradient(x)))
    return tf_keras.layers.Lambda(read)(tf_keras.layers.Dense(outputs)(features))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 11, 16)
    return folder


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path, data: Path
) -> Callable[..., harness.Result]:
    def train(**changes: Any) -> harness.Result:
        folder = tmp_path_factory.mktemp("run")
        spec = write_spec(folder, tiny_backbone, data, **{**SHORT, **changes})
        return harness.run(spec, run_dir=folder / "run", quiet=True)

    return train


@pytest.fixture(scope="module")
def full(trained: Callable[..., harness.Result]) -> harness.Result:
    return trained()


@pytest.fixture(scope="module")
def low(trained: Callable[..., harness.Result], full: harness.Result) -> harness.Result:
    """In the process of ``full``, whose switches must not stay, and after it."""
    return trained(**{"training.precision": "mixed_bfloat16"})


def losses(result: harness.Result) -> np.ndarray:
    return np.array([line["loss"] for line in lines(result.path / "metrics.jsonl")])


def continued(result: harness.Result, copy: Path) -> Path:
    """The run again, from its last checkpoint but one."""
    shutil.copytree(result.path, copy)
    (copy / "FINISHED").unlink()
    newest, before = sorted((copy / "checkpoints").glob("step-*"), reverse=True)[:2]
    assert before.name < newest.name
    shutil.rmtree(newest)
    harness.run(copy / "spec.yaml", run_dir=copy, quiet=True)
    assert newest.is_dir()
    return copy


def record(result: harness.Result) -> dict[str, Any]:
    return dict(json.loads((result.path / "run.json").read_text()))


def switches() -> dict[str, bool]:
    import tensorflow as tf

    from harness.model.arithmetic import REWRITERS

    known = tf.config.optimizer.get_experimental_options()
    return {switch: bool(known.get(switch, False)) for switch in REWRITERS.values()}


@BF16
def test_the_share_of_low_precision_is_counted_in_the_optimised_graph(low: harness.Result) -> None:
    told = record(low)["precision"]
    # The convolution; the hidden layer with the gradient of its weights; the last layer is whole.
    assert told["phases"]["head"] == {"ops_low": 3, "ops_all": 6}
    # And the gradients that lead into the convolution, a module of the Hub.
    assert told["phases"]["all"] == {"ops_low": 5, "ops_all": 8}
    assert (told["asked"], told["ops_low"], told["ops_all"]) == ("mixed_bfloat16", 8, 14)
    assert told["share_low"] == round(8 / 14, 4)


@BF16
def test_its_losses_are_near_those_of_float32_and_not_the_same(
    full: harness.Result, low: harness.Result
) -> None:
    np.testing.assert_allclose(losses(low), losses(full), rtol=1e-2)
    assert (losses(low) != losses(full)).any()
    assert record(full)["precision"] == {"asked": "float32"}


@BF16
def test_weights_stay_float32_under_their_names(full: harness.Result, low: harness.Result) -> None:
    one, other = final_tensors(full.path), final_tensors(low.path)
    assert {name: v.dtype for name, v in one.items()} == {n: v.dtype for n, v in other.items()}
    assert (
        not {v.dtype for v in other.values()}
        - {np.dtype(np.float32), np.dtype(np.int64)}
        - {
            np.dtype(np.float64)  # sums of metrics
        }
    )


@BF16
def test_it_goes_on_to_the_same_bits(low: harness.Result, tmp_path: Path) -> None:
    assert_same_result(continued(low, tmp_path / "run"), low.path)


@BF16
def test_what_is_made_of_it_computes_in_float32(low: harness.Result, tmp_path: Path) -> None:
    assert not any(switches().values()), "the switches are put back at the end of a run"
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options(dict.fromkeys(switches(), True))
    try:
        assert main(["export", str(low.path), "--to", str(tmp_path / "export")]) == 0
        assert not any(switches().values())
    finally:
        tf.config.optimizer.set_experimental_options(dict.fromkeys(switches(), False))


def test_a_scaled_run_has_the_bits_of_one_that_is_not_and_goes_on_with_its_scale(
    trained: Callable[..., harness.Result],
    full: harness.Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In float32, where all that a scale does is exact: this needs no GPU."""
    from harness.train.scaling import LossScale
    from harness.worker import training

    monkeypatch.setattr(training, "_scaling", lambda training: LossScale())
    scaled = trained()
    one, other = final_tensors(scaled.path), final_tensors(full.path)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    told = lines(scaled.path / "metrics.jsonl")
    steps = told[-1]["step"]
    for line in told:
        scale = (line.pop("loss_scale", None), line.pop("skipped_steps", None))
        assert scale == ((2.0**15, 0.0) if line["split"] == "train" else (None, None))
    newest = max((continued(scaled, tmp_path / "run") / "checkpoints").glob("step-*"))
    state = json.loads((newest / "state.json").read_text())["loss_scale"]
    assert state == {"scale": 2.0**15, "good": steps, "skipped": 0, "row": 0}


def test_what_xla_compiles_has_the_losses_of_what_it_does_not_and_goes_on_exactly(
    trained: Callable[..., harness.Result], full: harness.Result, tmp_path: Path
) -> None:
    compiled = trained(**{"training.jit_compile": True})
    np.testing.assert_allclose(losses(compiled), losses(full), rtol=1e-4)
    assert_same_result(continued(compiled, tmp_path / "run"), compiled.path)


def test_what_xla_cannot_compile_is_an_error_that_names_the_operation(
    trained: Callable[..., harness.Result], tmp_path: Path
) -> None:
    plugin = tmp_path / "texts.py"
    plugin.write_text(THROUGH_TEXTS)
    changes = {"head": {"plugin": "plugin:through_texts"}, "plugins": [str(plugin)]}
    with pytest.raises(SpecError) as caught:
        trained(**changes, **{"training.jit_compile": True})
    (problem,) = caught.value.problems
    assert (problem.path, problem.got) == ("training.jit_compile", "the operation AsString")
    assert problem.action == "set training.jit_compile: false"


@pytest.mark.parametrize(
    ("precision", "environment", "words"),
    [
        ("mixed_float16", {}, "TensorFlow computes in mixed_float16 on GPUs only"),
        (
            "mixed_bfloat16",
            {"TF_ENABLE_ONEDNN_OPTS": "0"},
            "TensorFlow cannot compute in mixed_bfloat16 on this machine",
        ),
    ],
)
def test_a_precision_that_the_machine_has_not_is_refused_before_training(
    precision: str,
    environment: dict[str, str],
    words: str,
    tiny_backbone: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    changes = {**SHORT, "training.precision": precision}
    spec = write_spec(tmp_path, tiny_backbone, data, **changes)
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    code, _, err = call(*command, **environment)
    assert code == ExitCode.ENVIRONMENT
    assert words in err
    assert "next: set training.precision: " in err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
