"""Ranks on GPUs: Horovod over NCCL, TensorFlow's own strategies, and two ranks on one GPU.

What needs two GPUs is skipped where there is one, and pytest says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.horovod_here import need_horovod
from tests.local.rank_helpers import Ended, assert_all, run_ranks
from tests.local.training_helpers import CLASSES, curve, write_spec

FLOAT32 = {"NVIDIA_TF32_OVERRIDE": "0"}
LIKE_ONE = 1e-4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 17, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


class Runs:
    """Runs of one spec on GPUs, with other ``cluster`` settings."""

    def __init__(self, folder: Path, backbone: Path, data: Path) -> None:
        self._folder, self._backbone, self._data = folder, backbone, data

    def end(
        self, name: str, ranks: int, each: Callable[[int], dict[str, str]], **cluster: Any
    ) -> list[Ended]:
        folder = self._folder / name
        folder.mkdir()
        asked = {f"cluster.{key}": value for key, value in cluster.items()}
        spec = write_spec(folder, self._backbone, self._data, **{"cluster.device": "gpu", **asked})
        arguments = ("run", str(spec), "--run-dir", str(folder / "run"))
        return run_ranks(
            folder / "said", ranks, *arguments, each=lambda rank: {**FLOAT32, **each(rank)}
        )

    def curve(self, name: str, ranks: int = 1, **cluster: Any) -> list[dict[str, Any]]:
        assert_all(self.end(name, ranks, lambda rank: {}, **cluster))
        return [dict(line) for line in curve(self._folder / name / "run")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path, data: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), tiny_backbone, data)


@pytest.fixture(scope="module")
def single(runs: Runs) -> list[dict[str, Any]]:
    return runs.curve("single", strategy="single")


def assert_alike(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert len(ours) == len(theirs) > 20
    for line, other in zip(ours, theirs, strict=True):
        assert (line["step"], line["split"]) == (other["step"], other["split"])
        np.testing.assert_allclose(line["loss"], other["loss"], rtol=LIKE_ONE)


def test_horovod_sums_over_nccl(runs: Runs, single: list[dict[str, Any]]) -> None:
    """One rank for each GPU, also where that is one: its sums go through NCCL all the same."""
    need_horovod("nccl")
    assert_alike(runs.curve("nccl", strategy="horovod"), single)


@pytest.mark.parametrize("strategy", ["horovod", "multiworker"])
def test_two_ranks_of_two_gpus_are_like_one(
    strategy: str, gpus: list[str], runs: Runs, single: list[dict[str, Any]]
) -> None:
    if len(gpus) < 2:
        pytest.skip(f"needs two GPUs, this machine has {len(gpus)}")
    ended = runs.curve(strategy, 2, strategy=strategy, ranks_per_node=2, gpus_per_node=2)
    assert_alike(ended, single)


def test_two_mirrored_gpus_are_like_one(
    gpus: list[str], runs: Runs, single: list[dict[str, Any]]
) -> None:
    if len(gpus) < 2:
        pytest.skip(f"needs two GPUs, this machine has {len(gpus)}")
    assert_alike(runs.curve("mirrored", strategy="mirrored", replicas_per_rank=2), single)


def test_mirrored_on_one_gpu_is_refused(runs: Runs) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": "0"}
    (ended,) = runs.end("one", 1, lambda rank: hidden, strategy="mirrored")
    assert ended.code == 3 and "there is one device to compute on" in ended.err


def test_two_ranks_on_one_gpu_are_refused(runs: Runs) -> None:
    """Each sees one GPU, as after srun --gpus-per-task, and it is the same one."""
    hidden = {"CUDA_VISIBLE_DEVICES": "0"}
    ended = runs.end("shared", 2, lambda rank: hidden, strategy="multiworker", ranks_per_node=2)
    told = "\n".join(one.err for one in ended)
    assert [one.code for one in ended] == [3, 3], told
    assert "two ranks would compute on one GPU" in told or "fewer GPUs than the ranks" in told
    assert "ranks 0, 1" in told or "1 GPU for 2 ranks" in told
    assert "Traceback" not in told
