"""Several devices in one process: the same batches, draws and figures as on one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.local.training_helpers import call, final_tensors, lines, mischief, write_spec

TWO = {"cluster.strategy": "mirrored", "cluster.replicas_per_rank": 2}
LIKE_RELATIVE = 1e-5
"""What splitting a batch in two may change: float32 sums in another order."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    """50 pictures, which no batch size divides: the last batch of an epoch is ragged."""
    folder = tmp_path_factory.mktemp("mirrored")
    write_pictures(folder / "train", ["blue", "green", "red"], 17)
    write_pictures(folder / "test", ["blue", "green", "red"], 5)
    return folder


def trained(folder: Path, backbone: Path, data: Path, **changes: Any) -> Path:
    """A finished run of 6 epochs with dropout, augmentation and class weights."""
    folder.mkdir()
    spec = write_spec(folder, backbone, data, **changes)
    code, out, err = call("run", str(spec), "--run-dir", str(folder / "run"))
    assert code == 0, out + err
    return folder / "run"


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path, data: Path
) -> tuple[Path, Path]:
    """The same spec on one device and on two."""
    folder = tmp_path_factory.mktemp("runs")
    one = trained(folder / "one", tiny_backbone, data)
    return one, trained(folder / "two", tiny_backbone, data, **TWO)


def test_losses_and_figures_are_those_of_one_device(runs: tuple[Path, Path]) -> None:
    one, two = (lines(run / "metrics.jsonl") for run in runs)
    assert len(one) == len(two) > 20
    for line, other in zip(one, two, strict=True):
        assert (line["step"], line["split"]) == (other["step"], other["split"])
        np.testing.assert_allclose(line["loss"], other["loss"], rtol=LIKE_RELATIVE)
        assert line["accuracy"] == other["accuracy"]


def test_weights_and_their_names_are_those_of_one_device(runs: tuple[Path, Path]) -> None:
    one, two = (final_tensors(run) for run in runs)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        np.testing.assert_allclose(tensor, two[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_it_says_what_it_computes_on(runs: tuple[Path, Path]) -> None:
    import json

    record = json.loads((runs[1] / "run.json").read_text())
    assert record["distribution"]["name"] == "mirrored"
    assert "2 of 2 CPUs" in record["distribution"]["why"]


def test_a_run_goes_on_with_another_number_of_devices(
    tmp_path: Path, tiny_backbone: Path, data: Path, runs: tuple[Path, Path]
) -> None:
    """Stopped on two devices and continued on one: the same curve."""
    stop = mischief(tmp_path, at=13, number=15)
    (tmp_path / "x").mkdir()
    spec = write_spec(tmp_path, tiny_backbone, data, **stop, **TWO)
    run = tmp_path / "run"
    code, out, err = call("run", str(spec), "--run-dir", str(run))
    assert code == 75, out + err
    alone = ["-o", "cluster.strategy=single", "-o", "cluster.replicas_per_rank=null"]
    code, out, err = call("run", str(spec), "--run-dir", str(run), *alone)
    assert code == 0, out + err
    for line, other in zip(
        lines(run / "metrics.jsonl"), lines(runs[0] / "metrics.jsonl"), strict=True
    ):
        assert (line["step"], line["split"]) == (other["step"], other["split"])
        np.testing.assert_allclose(line["loss"], other["loss"], rtol=LIKE_RELATIVE)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cluster.strategy": "mirrored"}, "there is one device to compute on"),
        ({"cluster.strategy": "single", "cluster.replicas_per_rank": 2}, "computes on one device"),
        ({"cluster.device": "gpu"}, "TensorFlow sees no GPU"),
        ({"cluster.device": "auto", "cluster.gpus_per_node": 4}, "fewer GPUs than cluster.gpus"),
        (
            {
                "cluster.device": "cpu",
                "cluster.replicas_per_rank": 16,
                "cluster.strategy": "mirrored",
            },
            "replicas cannot share the 8 lanes",
        ),
    ],
)
def test_what_the_devices_cannot_do_is_said_before_training(
    tmp_path: Path, tiny_backbone: Path, data: Path, changes: dict[str, Any], said: str
) -> None:
    spec = write_spec(tmp_path, tiny_backbone, data, **changes)
    code, _, err = call(
        "run", str(spec), "--run-dir", str(tmp_path / "run"), CUDA_VISIBLE_DEVICES=""
    )
    assert said in err
    assert code == 3
    assert "Traceback" not in err
