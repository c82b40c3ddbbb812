"""Checkpoints written while a run trains: it waits for none, and loses none."""

from __future__ import annotations

import datetime
import itertools
import json
import pickle
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))


from harness.checkpoint import store
from harness.checkpoint.snapshot import Snapshot
from harness.checkpoint.store import Store
from harness.cli.main import main
from harness.errors import ExitCode
from harness.runs.clock import UTC, format_time
from harness.runs.paths import RunPaths
from harness.train.keeper import Keeper
from tests.local.training_helpers import (
    CLASSES,
    checkpoint_steps,
    mischief,
    write_spec,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 12, 16)
    write_pictures(folder / "test", CLASSES, 4, 16)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


def run(spec: Path, folder: Path) -> int:
    return int(main(["run", str(spec), "--run-dir", str(folder), "--quiet"]))


def weights(folder: Path) -> dict[str, np.ndarray]:
    paths = RunPaths(folder)
    restored = Store(paths.checkpoints, keep=9, access="private", log=print).restore()
    assert restored is not None
    return {n: v for n, v in restored.tensors.items() if n.startswith("model/")}


def test_steps_go_on_while_a_checkpoint_is_written(
    tmp_path: Path, data: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each commit takes a second longer than it does; what it has does not change meanwhile."""
    commit, save, took = Store.commit, Keeper.save, []
    written: dict[int, tuple[bytes, bytes]] = {}

    def slow(self: Store, snapshot: Snapshot) -> Path:
        before = content(snapshot)
        time.sleep(1.0)
        written[snapshot.step] = before, content(snapshot)
        return commit(self, snapshot)

    def noted(self: Keeper, *arguments, **options) -> None:
        began = time.monotonic()
        save(self, *arguments, **options)
        took.append(time.monotonic() - began)

    monkeypatch.setattr(Store, "commit", slow)
    monkeypatch.setattr(Keeper, "save", noted)
    changes = {
        "training.phases": [{"name": "one", "epochs": 2, "learning_rate": 0.01}],
        **mischief(tmp_path, sleep_s=0.05),
    }
    spec = write_spec(tmp_path, tiny_backbone, data, **changes)
    assert run(spec, tmp_path / "run") == ExitCode.DONE
    assert list(written) == sorted(written)
    assert len(written) > 2
    assert all(before == after for before, after in written.values())
    # The first one has none before it to wait for.
    assert took[0] < 0.9
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["best"]["step"] in checkpoint_steps(tmp_path / "run")


def content(snapshot: Snapshot) -> bytes:
    """All that is in it."""
    return pickle.dumps((dict(snapshot.tensors), snapshot.state, dict(snapshot.metrics)))


def test_one_a_period_is_kept_over_restarts(
    tmp_path: Path, data: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint an hour, two hours a period, by the clock from the first attempt on."""
    hours = itertools.count(1)
    begins = datetime.datetime.now(UTC) + datetime.timedelta(minutes=1)
    monkeypatch.setattr(
        store, "utc_now", lambda: format_time(begins + datetime.timedelta(hours=next(hours)))
    )
    for epochs in (1, 3):
        changes = {
            "training.phases": [{"name": "one", "epochs": epochs, "learning_rate": 0.01}],
            "checkpoint": {"every": "1 steps", "keep": 1, "keep_every": "2h"},
        }
        spec = write_spec(tmp_path, tiny_backbone, data, **changes)
        assert run(spec, tmp_path / "run") == ExitCode.DONE
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    last = record["total_steps"]
    wanted = {*range(2, last + 1, 2), record["best"]["step"], last}
    assert checkpoint_steps(tmp_path / "run") == sorted(wanted)
    assert last > 6 and record["attempts"] == 2
