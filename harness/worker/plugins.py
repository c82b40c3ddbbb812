"""The plug-ins of a run: its own copies, so that an edit in between changes nothing."""

from __future__ import annotations

from harness.runs.paths import RunPaths
from harness.runs.snapshot import kept_plugins
from harness.spec import Trust
from harness.spec.plugin_files import load_plugins


def load_run_plugins(paths: RunPaths, trust: Trust) -> None:
    """Runs the plug-in files that the run has kept, and its entry points.

    Raises:
        SpecError: one cannot be run or is not trusted.
        StorageError: a copy is missing or was changed.
    """
    load_plugins(kept_plugins(paths), trust)
