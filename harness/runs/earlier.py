"""An earlier run whose backbone a spec goes on with: ``backbone.handle: run:DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.spec import Spec, spec_from_file_resolved

SCHEME = "run:"


def earlier_run(handle: str) -> RunPaths | None:
    """The run of ``run:DIR``; None of another handle."""
    return RunPaths(Path(handle.removeprefix(SCHEME))) if handle.startswith(SCHEME) else None


def first_source(spec: Spec) -> Spec:
    """The spec whose backbone the weights first came from: of a run of a run the first one.

    Raises:
        DataError: an earlier run is not there.
    """
    while (paths := earlier_run(spec.backbone.handle)) is not None:
        spec = spec_of(paths)
    return spec


def spec_of(paths: RunPaths) -> Spec:
    """The spec of an earlier run.

    Raises:
        DataError: there is no such run.
    """
    if not paths.spec.is_file():
        raise unfit("there is no run", paths, "correct the path; `harness list` shows your runs")
    return spec_from_file_resolved(paths.spec)


def record_of(paths: RunPaths) -> dict[str, Any]:
    """The record of an earlier run.

    Raises:
        DataError: it has not begun to train.
    """
    record = read_record(paths) if paths.record.is_file() else {}
    if not record.get("classes"):
        raise unfit("the run has not begun to train", paths, "run it first")
    return record


def unfit(what: str, paths: RunPaths, action: str) -> DataError:
    """That a run cannot give a backbone."""
    return DataError(
        what,
        got=str(paths.root),
        allowed="the directory of a run that has saved a checkpoint",
        action=action,
        path="backbone.handle",
    )
