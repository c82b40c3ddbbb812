"""Float16 on a GPU: what it computes in, its loss scale, and what is refused; and XLA there."""

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
    curve,
    final_tensors,
    lines,
    mischief,
    write_spec,
)

GPU = {"cluster.device": "gpu"}
FLOAT32 = {"NVIDIA_TF32_OVERRIDE": "0"}
LOW = {
    **GPU,
    "training.precision": "mixed_float16",
    "training.feature_cache": "off",
    "training.phases": [
        {"name": "head", "epochs": 2, "learning_rate": 0.01},
        {"name": "all", "epochs": 2, "learning_rate": 0.001, "unfreeze": "all"},
    ],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


def trained(folder: Path, backbone: Path, data: Path, **changes: Any) -> Path:
    """A finished run."""
    folder.mkdir()
    spec = write_spec(folder, backbone, data, **{**mischief(folder), **LOW, **changes})
    code, out, err = call("run", str(spec), "--run-dir", str(folder / "run"), **FLOAT32)
    assert code == 0, out + err
    return folder / "run"


@pytest.fixture(scope="module")
def low(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path, data: Path) -> Path:
    return trained(tmp_path_factory.mktemp("low") / "gpu", tiny_backbone, data)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("full") / "gpu"
    return trained(folder, tiny_backbone, data, **{"training.precision": "float32"})


def losses(run: Path) -> np.ndarray:
    return np.array([dict(line)["loss"] for line in curve(run)])


def test_products_are_float16_but_for_the_last_layer(low: Path) -> None:
    told = json.loads((low / "run.json").read_text())["precision"]
    assert told["asked"] == "mixed_float16"
    for counted in told["phases"].values():
        assert counted["ops_low"] > 0
        assert counted["ops_all"] - counted["ops_low"] >= 3


def test_losses_are_near_those_of_float32_and_not_the_same(low: Path, full: Path) -> None:
    np.testing.assert_allclose(losses(low), losses(full), rtol=2e-2)
    assert (losses(low) != losses(full)).any()
    one, other = final_tensors(low), final_tensors(full)
    assert {name: v.dtype for name, v in one.items()} == {n: v.dtype for n, v in other.items()}


def test_its_lines_tell_the_scale(low: Path) -> None:
    told = [line for line in lines(low / "metrics.jsonl") if line["split"] == "train"]
    assert all(line["loss_scale"] * 2.0 ** line["skipped_steps"] == 2.0**15 for line in told)


def test_killed_it_ends_with_the_bits_of_one_left_alone(
    low: Path, tmp_path: Path, tiny_backbone: Path, data: Path
) -> None:
    spec = write_spec(tmp_path, tiny_backbone, data, **{**mischief(tmp_path, at=11), **LOW})
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert call(*command, **FLOAT32)[0] == -signal.SIGKILL
    code, _, err = call(*command, **FLOAT32)
    assert code == 0, err
    assert_same_result(tmp_path / "run", low)


def test_bfloat16_is_for_cpus(tmp_path: Path, tiny_backbone: Path, data: Path) -> None:
    changes = {**GPU, "training.precision": "mixed_bfloat16"}
    spec = write_spec(tmp_path, tiny_backbone, data, **changes)
    code, _, err = call("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert code == 3, err
    assert "TensorFlow computes in mixed_bfloat16 on CPUs only" in err


def test_what_xla_compiles_has_the_losses_of_what_it_does_not(
    full: Path, tmp_path: Path, tiny_backbone: Path, data: Path
) -> None:
    changes = {"training.precision": "float32", "training.jit_compile": True}
    compiled = trained(tmp_path / "compiled", tiny_backbone, data, **changes)
    np.testing.assert_allclose(losses(compiled), losses(full), rtol=1e-4)
