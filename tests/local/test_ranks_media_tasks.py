"""Several labels and numbers of texts and recordings: on devices and ranks as on one device.

Of every third example a label is not known, so the replicas of a step know of unequal many.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.horovod_here import need_horovod
from tests.local.media_tasks_helpers import MEDIA, spec_of
from tests.local.rank_helpers import Ended, assert_all, run_ranks, run_workers
from tests.local.training_helpers import curve, final_tensors, lines

TASKS = [(medium, kind) for medium in MEDIA for kind in ("multilabel", "regression")]
LIKE_RELATIVE = 1e-4
"""What splitting a batch may change: float32 sums in another order, over two epochs of steps."""


@pytest.fixture(scope="module", params=TASKS, ids="-".join)
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(folder, spec, the run of one device)"""
    medium, kind = request.param
    folder = tmp_path_factory.mktemp("ranks")
    MEDIA[medium].write(folder, gaps=3)
    given = (medium, folder, request.getfixturevalue(f"tiny_{medium}_backbone"))
    spec = spec_of(
        folder,
        given,
        kind,
        **{
            "training.phases": [{"name": "one", "epochs": 3, "learning_rate": 0.05}],
            "logging.every": "1 steps",
        },
    )
    assert_all(start("single", folder, spec))
    return folder, spec, folder / "single"


def start(how: str, folder: Path, spec: Path) -> list[Ended]:
    run = ["run", str(spec), "--run-dir", str(folder / how), "-o"]
    logs = folder / f"{how}-logs"
    if how == "single":
        return run_ranks(logs, 1, *run, "cluster.strategy=single")
    if how == "mirrored":
        two = "cluster.replicas_per_rank=2"
        return run_ranks(logs, 1, *run, "cluster.strategy=mirrored", "-o", two)
    if how == "multiworker":
        return run_workers(logs, 2, *run, "cluster.strategy=multiworker")
    need_horovod("gloo")
    return run_ranks(logs, 2, *run, "cluster.strategy=horovod")


@pytest.mark.parametrize("how", ["mirrored", "horovod", "multiworker"])
def test_lines_figures_and_weights_are_those_of_one_device(task: Any, how: str) -> None:
    folder, spec, single = task
    assert_all(start(how, folder, spec))
    one, other = lines(single / "metrics.jsonl"), lines(folder / how / "metrics.jsonl")
    curve(folder / how)  # no step twice
    assert len(one) == len(other) > 10
    for line, same in zip(one, other, strict=True):
        assert line.keys() == same.keys()
        for name in ("step", "split", "epoch", "phase"):
            assert line[name] == same[name]
        np.testing.assert_allclose(line["loss"], same["loss"], rtol=LIKE_RELATIVE)
    last, its = one[-1], other[-1]
    assert last["split"] == "test"
    for name in last.keys() & {"accuracy", "auc", "mae", "rmse", "r2"}:
        assert its[name] == pytest.approx(last[name], rel=1e-3, abs=1e-6), name
    first, second = final_tensors(single), final_tensors(folder / how)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        np.testing.assert_allclose(tensor, second[name], rtol=1e-3, atol=1e-5, err_msg=name)
