"""Preflights of specs on a test cluster, and the cluster changed for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import Problem, SpecError
from harness.launch.jobs_made import script_text
from harness.launch.preflight import preflight
from harness.launch.preflight_report import Preflight
from harness.launch.request import make_request
from harness.launch.slurm import Slurm
from harness.runs.paths import RunPaths
from harness.spec import load_spec
from tests.cluster.slurm_cluster import SlurmCluster

SPEC = """\
harness_spec: 1
name: textures
backbone: {handle: "https://tfhub.dev/google/imagenet/mobilenet_v2/5"}
data: {train: /data/train}
cluster:
"""
LINES_BEFORE = SPEC.count("\n")


class Asking:
    """Preflights of specs on one cluster, written to files so that findings have lines."""

    def __init__(self, cluster: SlurmCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.run_dir = folder / "runs" / "textures" / "1"
        self.file = folder / "job.yaml"

    def __call__(
        self,
        *lines: str,
        site: Path | None = None,
        environment: dict[str, str] | None = None,
        **changes: Any,
    ) -> Preflight:
        """The result for a spec with these lines under ``cluster``; ``changes`` are what specs
        cannot say yet, laid over the request."""
        self.file.write_text(SPEC + "".join(f"  {line}\n" for line in lines or ["nodes: 1"]))
        resolved = load_spec(self.file, site=None if site is None else str(site))
        request = replace(make_request(resolved), **changes)
        slurm = Slurm(self.cluster.environment(**(environment or {})))
        script = script_text(resolved, request, RunPaths(self.run_dir), slurm)
        return preflight(resolved, request, self.run_dir, script, slurm)

    def one(self, *lines: str, **changes: Any) -> Problem:
        """The only problem, which must be one of the spec."""
        found = self(*lines, **changes)
        with pytest.raises(SpecError) as caught:
            found.raise_if_bad()
        assert len(caught.value.problems) == 1, str(caught.value)
        return caught.value.problems[0]

    def place(self, line: int) -> tuple[str, int]:
        """The file and the line of one of the lines given, counted from 1."""
        return str(self.file), LINES_BEFORE + line


@contextlib.contextmanager
def changed(
    cluster: SlurmCluster, place: str, change: str, back: str, *more: str
) -> Iterator[None]:
    """The cluster with one ``scontrol update`` done to it."""
    cluster.run("scontrol", "update", place, change, *more)
    try:
        yield
    finally:
        cluster.run("scontrol", "update", place, back)
