"""A machine with no SLURM, and what is in a run that is rolled back there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.checkpoint import Store
from harness.launch.slurm import Slurm
from harness.runs.paths import RunPaths


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """A machine with no SLURM."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return Slurm()


def content(paths: RunPaths) -> dict[str, bytes]:
    """Every file of a run but its lock files, the account of attempts and the record before."""
    known = (paths.lock, paths.submit_lock, paths.attempts, paths.record_before)
    return {
        str(path.relative_to(paths.root)): path.read_bytes()
        for path in paths.root.rglob("*")
        if path.is_file() and path not in known
    }


def there(paths: RunPaths) -> list[int]:
    return [
        info.step for info in Store(paths.checkpoints, keep=9, access="private", log=print).list()
    ]


def newest(paths: RunPaths) -> int:
    restored = Store(paths.checkpoints, keep=9, access="private", log=print).restore()
    assert restored is not None
    return restored.step
