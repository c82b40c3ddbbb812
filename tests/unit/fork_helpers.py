"""A parent run with checkpoints, and a call that forks it."""

from __future__ import annotations

import pytest
from runs_helpers import finish, resolved

from harness.checkpoint.store import Store
from harness.launch.fork import fork_run
from harness.runs.create import create_run
from harness.runs.paths import RunPaths


def save(paths: RunPaths, step: int, best: int | None = None, value: float | None = 0.5) -> None:
    """A checkpoint as the trainer saves it, without tensors."""
    store = Store(paths.checkpoints, keep=9, access="private", log=print)
    state = {"position": {"step": step}}
    if best is not None:
        state["best"] = {"metric": "val_accuracy", "value": value, "step": best}
    store.save(step, {}, state)


@pytest.fixture
def parent(tmp_path) -> RunPaths:
    """A finished run with checkpoints 10 (the best), 20 and 30."""
    paths, _ = create_run(resolved(), tmp_path / "parent")
    for step in (10, 20, 30):
        save(paths, step, best=10)
    finish(paths, step=30)
    return paths


@pytest.fixture
def said():
    return []


@pytest.fixture
def fork(said):
    def call(parent, *overrides, **more):
        return fork_run(parent, overrides=overrides, log=said.append, **more)

    return call
