"""One spec on one device, several devices, several ranks: the same lines, figures and weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.horovod_here import need_horovod
from tests.local.rank_helpers import (
    Ended,
    assert_all,
    run_launched,
    run_ranks,
    run_workers,
)
from tests.local.training_helpers import curve, final_tensors, lines, write_spec

LIKE_RELATIVE = 1e-5
"""What splitting a batch may change: float32 sums in another order."""
MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2")


@pytest.fixture(scope="module")
def spec(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_backbone: Path,
    write_pictures: Callable[..., Path],
) -> Path:
    """Dropout, class weights, augmentation, ragged last batches, and over 100 steps."""
    folder = tmp_path_factory.mktemp("spec")
    # Classes of different size, so that the class weights are not all 1.
    for name, each in (("blue", 70), ("green", 90), ("red", 110)):
        write_pictures(folder / name, ["blue", "green", "red"], each, 16)
        kept = folder / "data" / "train" / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        (folder / name / name).rename(kept)
    write_pictures(folder / "data" / "test", ["blue", "green", "red"], 5, 16)
    changes = {
        "training.phases": [{"name": "one", "epochs": 4, "learning_rate": 0.01}],
        "logging.every": "1 steps",
        "checkpoint.every": "1 epochs",
    }
    return write_spec(folder, tiny_backbone, folder / "data", **changes)


class Runs:
    """The finished runs of the spec, each made once, when it is first asked for, failed or not."""

    def __init__(self, folder: Path, spec: Path) -> None:
        self._folder, self._spec = folder, spec
        self._made: dict[str, Path] = {}
        self.ended: dict[str, list[Ended]] = {}

    def __getitem__(self, how: str) -> Path:
        if how not in self._made:
            assert how not in self.ended, f"the run by {how} has failed before"
            self.ended[how] = self._start(how)
            assert_all(self.ended[how])
            self._made[how] = self._folder / how
        return self._made[how]

    def _start(self, how: str) -> list[Ended]:
        run = ["run", str(self._spec), "--run-dir", str(self._folder / how), "-o"]
        logs = self._folder / f"{how}-logs"
        if how == "single":
            return run_ranks(logs, 1, *run, "cluster.strategy=single")
        if how == "mirrored-2":
            two = "cluster.replicas_per_rank=2"
            return run_ranks(logs, 1, *run, "cluster.strategy=mirrored", "-o", two)
        if how == "horovodrun-2":
            need_horovod("gloo")
            launcher = [str(Path(sys.executable).with_name("horovodrun")), "--gloo", "-np", "2"]
            return [run_launched(logs, launcher, *run, "cluster.strategy=horovod")]
        if how == "mpirun-2":
            need_horovod("mpi")
            return [run_launched(logs, MPIRUN, *run, "cluster.strategy=horovod")]
        if how == "horovod-4":
            need_horovod("gloo")
            return run_ranks(logs, 4, *run, "cluster.strategy=auto")
        assert how == "multiworker-2", how
        return run_workers(logs, 2, *run, "cluster.strategy=multiworker")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, spec: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), spec)


WHY = {
    "mirrored-2": "one process, 2 of 2 CPUs mirrored (strategy: mirrored)",
    "horovodrun-2": "2 ranks by horovodrun, asked for, one CPU each",
    "mpirun-2": "2 ranks by mpirun, asked for, one CPU each",
    "horovod-4": "4 ranks by submitit, Horovod is installed, one CPU each",
    "multiworker-2": "2 ranks by TF_CONFIG, asked for, 1 CPU each",
}


def files(run: Path) -> set[str]:
    """The files of a run, those of TensorBoard by their folders."""
    names = (path.relative_to(run) for path in run.rglob("*") if path.is_file())
    return {str(name.parent if "tfevents" in name.name else name) for name in names}


@pytest.mark.parametrize("how", list(WHY))
def test_lines_figures_and_weights_are_those_of_one_device(runs: Runs, how: str) -> None:
    one, other = lines(runs["single"] / "metrics.jsonl"), lines(runs[how] / "metrics.jsonl")
    curve(runs[how])  # no step twice
    assert len(one) == len(other)
    assert one[-1]["step"] >= 100
    worst = 0.0
    for line, same in zip(one, other, strict=True):
        assert [line[key] for key in ("step", "split", "epoch", "phase", "accuracy")] == [
            same[key] for key in ("step", "split", "epoch", "phase", "accuracy")
        ]
        worst = max(worst, abs(line["loss"] - same["loss"]) / abs(line["loss"]))
    print(f"{how}: losses of {len(one)} lines differ by {worst:.1e} at most")
    assert worst < LIKE_RELATIVE
    first, second = final_tensors(runs["single"]), final_tensors(runs[how])
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        np.testing.assert_allclose(tensor, second[name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("how", list(WHY))
def test_rank_0_alone_writes_and_says_what_they_compute_on(runs: Runs, how: str) -> None:
    record = json.loads((runs[how] / "run.json").read_text())
    name = how.split("-")[0]
    assert record["distribution"]["name"] == {"horovodrun": "horovod", "mpirun": "horovod"}.get(
        name, name
    )
    assert record["distribution"]["why"] == WHY[how]
    assert record["replicas"] == int(how[-1])
    begin, end = lines(runs[how] / "attempts.jsonl")
    assert (begin["event"], end["event"], end["outcome"]) == ("begin", "end", "finished")
    # What TensorFlow says while it is imported is there if this process has done that itself.
    said = {"tensorflow.log", "harness.log"}
    assert files(runs[how]) - said == files(runs["single"]) - said
    for events in (runs[how] / "tensorboard").rglob("*tfevents*"):
        assert f".{begin['pid']}." in events.name
