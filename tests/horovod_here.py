"""Tests that need Horovod: they skip without it, and fail where CI is set."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.distribute.horovod_built import HorovodFacts, horovod_facts

sys.path.insert(0, str(Path(__file__).resolve().parent / "unit"))

from rights import lacking

HOW = "make horovod"


def need_horovod(*built_with: str) -> HorovodFacts:
    """The installed Horovod, which has all of ``gloo``, ``mpi``, ``nccl`` that is named."""
    facts = horovod_facts()
    if facts is None:
        lacking(f"Horovod is not installed: {HOW}")
    if facts.trouble:
        lacking(f"Horovod {facts.version} cannot be used ({facts.trouble}): {HOW}")
    missing = [part for part in built_with if part not in facts.built_with]
    if missing:
        lacking(f"Horovod was built without {', '.join(missing)}: {HOW}")
    return facts
