"""Opens the metric writers of an attempt."""

from __future__ import annotations

from harness.observe.jsonl import JsonlWriter
from harness.observe.tensorboard import TensorBoardWriter
from harness.observe.writers import MultiWriter
from harness.runs.paths import RunPaths


def open_writers(paths: RunPaths, attempt: int) -> MultiWriter:
    """``metrics.jsonl`` and TensorBoard's event files, as one writer."""
    return MultiWriter([JsonlWriter(paths, attempt), TensorBoardWriter(paths.tensorboard)])
