"""Specs whose ranks run in a container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.launch.container import Inside, inside_of
from harness.runs.paths import RunPaths
from harness.spec import load_spec

SPEC: dict[str, Any] = {
    "harness_spec": 1,
    "name": "textures",
    "backbone": {"handle": "hub:/models/m"},
    "data": {"train": "/data/train", "validation": "/data/val", "test": "/data/test"},
    "training": {"phases": [{"name": "head", "epochs": 5}]},
}


PATHS = RunPaths(Path("/runs/textures/one"))


def inside(container: Any, site: str | None = None, **more: Any) -> Inside:
    found = inside_of(
        load_spec({**SPEC, **more, "cluster": {"container": container}}, site=site), PATHS
    )
    assert found is not None
    return found


@pytest.fixture
def sif(tmp_path: Path) -> Path:
    """A file that begins as a SIF image does: a line for the shell, then the magic."""
    file = tmp_path / "an image.sif"
    file.write_bytes(b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\0" + bytes(100))
    return file
