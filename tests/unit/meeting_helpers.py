"""Ranks that are to meet."""

from __future__ import annotations

from typing import Any

from harness.distribute.topology import Topology


def place(rank: int = 0, **changes: Any) -> Topology:
    """Two nodes of two ranks, unless changed."""
    given = {"rank": rank, "size": 4, "source": "srun", "local_size": 2, "nodes": 2}
    given |= {"hosts": ("n1", "n2"), "node": rank // 2, "local_rank": rank % 2}
    return Topology(**{**given, **changes})
