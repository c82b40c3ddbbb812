"""A run on disk: its file names, record, lock, state and registry.  No TensorFlow, no numpy.

The run directories are the only truth: nothing here keeps a database beside them.
"""

from __future__ import annotations

from harness.runs.paths import RunPaths

__all__ = ["RunPaths"]
