"""Training on one GPU: the figures of the CPU, exact resume, memory, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.distribute.devices import gpu_ids
from tests.local.training_helpers import (
    CLASSES,
    assert_same_result,
    call,
    curve,
    final_tensors,
    mischief,
    start,
    write_spec,
)

GPU = {"cluster.device": "gpu"}
FLOAT32 = {"NVIDIA_TF32_OVERRIDE": "0"}
"""Products in full float32, which Ampere and later otherwise shorten to 10 bits."""
LIKE_CPU = 1e-4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


def trained(folder: Path, backbone: Path, data: Path, **changes: Any) -> Path:
    """A finished run."""
    folder.mkdir()
    options = {**mischief(folder), **GPU, **changes}
    spec = write_spec(folder, backbone, data, **options)
    code, out, err = call("run", str(spec), "--run-dir", str(folder / "run"), **FLOAT32)
    assert code == 0, out + err
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path, data: Path) -> Path:
    return trained(tmp_path_factory.mktemp("run") / "gpu", tiny_backbone, data)


def test_the_driver_names_the_gpus_as_nvidia_smi_does(gpus: list[str]) -> None:
    # nvidia-smi writes the domain with eight digits, the driver with four.
    assert sorted(i.lower()[-12:] for i in gpu_ids()) == sorted(i.lower()[-12:] for i in gpus)


def test_it_says_that_it_computes_on_the_gpu(run: Path) -> None:
    told = json.loads((run / "run.json").read_text())
    assert "GPU" in told["distribution"]["why"]
    assert told["exact"] is True


def test_figures_are_those_of_the_cpu(
    run: Path, tmp_path: Path, tiny_backbone: Path, data: Path
) -> None:
    cpu = trained(tmp_path / "cpu", tiny_backbone, data, **{"cluster.device": "cpu"})
    ours, theirs = ([dict(line) for line in curve(one)] for one in (run, cpu))
    assert len(ours) == len(theirs) > 20
    for line, other in zip(ours, theirs, strict=True):
        assert (line["step"], line["split"]) == (other["step"], other["split"])
        np.testing.assert_allclose(line["loss"], other["loss"], rtol=LIKE_CPU)
    here, there = final_tensors(run), final_tensors(cpu)
    assert here.keys() == there.keys()
    for name in (name for name in here if name.startswith("model/")):
        np.testing.assert_allclose(here[name], there[name], rtol=1e-2, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("at", [11, 20])
def test_killed_it_ends_with_the_bits_of_one_left_alone(
    at: int, tmp_path: Path, tiny_backbone: Path, data: Path, run: Path
) -> None:
    spec = write_spec(tmp_path, tiny_backbone, data, **mischief(tmp_path, at=at), **GPU)
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert call(*command, **FLOAT32)[0] == -signal.SIGKILL
    code, _, err = call(*command, **FLOAT32)
    assert code == 0, err
    assert_same_result(tmp_path / "run", run)


def test_parts_of_a_step_give_the_figures_of_the_whole(
    run: Path, tmp_path: Path, tiny_backbone: Path, data: Path
) -> None:
    parts = {"training.batch_size": 4, "training.accumulate": 2}
    accumulated = trained(tmp_path / "parts", tiny_backbone, data, **parts)
    for line, other in zip(curve(accumulated), curve(run), strict=True):
        np.testing.assert_allclose(dict(line)["loss"], dict(other)["loss"], rtol=LIKE_CPU)


def test_its_evaluation_export_and_prediction_agree(run: Path, data: Path, tmp_path: Path) -> None:
    final = json.loads((run / "run.json").read_text())["final"]
    code, out, err = call("evaluate", str(run), "--json", **FLOAT32)
    assert code == 0, err
    np.testing.assert_allclose(json.loads(out)["metrics"]["loss"], final["test_loss"], rtol=1e-5)
    found = []
    for environment in (FLOAT32, {"CUDA_VISIBLE_DEVICES": "-1"}):
        code, out, err = call("predict", str(run), str(data / "test"), "--json", **environment)
        assert code == 0, err
        found.append([each["probability"] for each in json.loads(out)])
    np.testing.assert_allclose(found[0], found[1], rtol=LIKE_CPU)
    code, out, err = call("export", str(run), "--to", str(tmp_path / "export"), **FLOAT32)
    assert code == 0, err


def test_it_takes_the_memory_that_it_needs_and_no_more(
    tmp_path: Path, tiny_backbone: Path, data: Path
) -> None:
    """Others on the node may use the same GPU."""
    options = {**mischief(tmp_path, sleep_s=1.0), **GPU, "logging.every": "1 steps"}
    spec = write_spec(tmp_path, tiny_backbone, data, **options)
    total = sum(_mib("memory.total"))
    before = sum(_mib("memory.used"))
    process = start("run", str(spec), "--run-dir", str(tmp_path / "run"))
    try:
        metrics = tmp_path / "run" / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.read_text()):
            time.sleep(0.1)
        assert process.poll() is None, process.communicate()
        # Without growth it would be nearly all.
        assert 0 < sum(_mib("memory.used")) - before < 4096 < total / 2
    finally:
        process.kill()
        process.communicate()


def _mib(what: str) -> list[int]:
    """Of every GPU; run these tests where nobody else uses them."""
    told = subprocess.run(
        ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [*map(int, told.stdout.split())]


@pytest.mark.parametrize(
    ("changes", "environment", "words"),
    [
        (GPU, {"CUDA_VISIBLE_DEVICES": "-1"}, "CUDA_VISIBLE_DEVICES='-1', which hides every GPU"),
        ({**GPU, "cluster.gpus_per_node": 64}, {}, "fewer GPUs than cluster.gpus_per_node"),
    ],
)
def test_too_few_gpus_are_an_error(
    changes: dict[str, Any],
    environment: dict[str, str],
    words: str,
    tmp_path: Path,
    tiny_backbone: Path,
    data: Path,
) -> None:
    spec = write_spec(tmp_path, tiny_backbone, data, **changes)
    code, _, err = call("run", str(spec), "--run-dir", str(tmp_path / "run"), **environment)
    assert code == 3, err
    assert words in err and "Traceback" not in err
