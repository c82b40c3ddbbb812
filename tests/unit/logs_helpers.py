"""Logs of ranks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from runs_helpers import make_run

from harness.runs.paths import RunPaths


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return make_run(tmp_path)


def write(paths: RunPaths, job: str, rank: int, stream: str, text: str, age_s: int = 0) -> Path:
    path = paths.job_log(job, rank, stream)
    path.write_text(text)
    os.utime(path, (1e9 - age_s, 1e9 - age_s))
    return path
