"""The accounts of examples that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.data.corrupt import CorruptRecorder
from harness.runs.paths import RunPaths
from harness.spec import Spec
from harness.worker.datasets import Datasets
from harness.worker.ranks import Ranks


def recorders_of(
    spec: Spec, sets: Datasets, paths: RunPaths, ranks: Ranks
) -> dict[str, CorruptRecorder]:
    """One for each split.  Each rank meets the broken files of its own rows and tells rank 0 of
    them: the limit is for all together."""
    tell = None if ranks.first else ranks.tell
    found = {
        split: make_recorder(spec, count, split, paths, tell)
        for split, count in sets.counts().items()
    }
    if ranks.first:
        ranks.on("corrupt", lambda rank, one: found[one[0]].add(one[1], one[2]))
    return found


def make_recorder(
    spec: Spec,
    total: int,
    split: str,
    paths: RunPaths | None,
    tell: Callable[[str, Any], None] | None = None,
) -> CorruptRecorder:
    """The account of unreadable examples; kept in memory only without ``paths``.

    Args:
        tell: of another rank than the first: how it tells rank 0, which keeps the account.
    """
    corrupt = spec.data.corrupt
    if tell is not None:
        paths = None
    return CorruptRecorder(
        total,
        corrupt.policy,
        corrupt.limit.value / 100,
        # Names may identify people: they are not written for sensitive data.
        paths.corrupt if paths is not None and not spec.data.sensitive else None,
        split=split,
        hide_names=spec.data.sensitive,
        tell=None if tell is None else lambda *one: tell("corrupt", [split, *one]),
    )
