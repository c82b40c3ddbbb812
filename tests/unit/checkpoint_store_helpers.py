"""Checkpoints in a folder."""

from __future__ import annotations

from harness.checkpoint import Store


def steps(store: Store) -> list[int]:
    """Steps of the checkpoints that are there."""
    return [info.step for info in store.list()]
