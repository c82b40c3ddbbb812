"""Calls that are prepared for a job which somebody submits by hand."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
from runs_helpers import make_run

from harness.launch import jobs_made
from harness.launch.slurm import Slurm
from harness.runs.paths import RunPaths
from harness.worker.entry import PREPARED_PICKLE


def called_with(paths: RunPaths) -> tuple[str, ...]:
    with (paths.slurm / PREPARED_PICKLE).open("rb") as file:
        return tuple(pickle.load(file).args)


def test_a_prepared_call_follows_its_run_when_it_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_run(tmp_path)
    paths.slurm.mkdir(exist_ok=True)
    jobs_made._prepare_call(paths)
    assert called_with(paths) == (str(paths.root),)
    assert (paths.slurm / PREPARED_PICKLE).stat().st_mode & 0o777 == 0o600
    moved = RunPaths(Path(shutil.move(paths.root, tmp_path / "moved")))

    class Enough(Exception):
        pass

    def stop(*arguments: object) -> None:
        raise Enough

    monkeypatch.setattr(jobs_made, "_executor", stop)
    with pytest.raises(Enough):
        jobs_made.start_slurm(None, None, moved, Slurm({}))  # type: ignore[arg-type]
    assert called_with(moved) == (str(moved.root),)
