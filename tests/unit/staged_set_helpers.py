"""A packed set, and a copy of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from staging_helpers import make_set

from harness.data.packed import PackedIndex
from harness.data.staging import StagedSet, staged_folder


@pytest.fixture
def packed(tmp_path: Path) -> PackedIndex:
    return make_set(tmp_path / "shared" / "set")


@pytest.fixture
def staged(packed: PackedIndex, tmp_path: Path) -> StagedSet:
    """Nothing is copied yet."""
    one = StagedSet(packed, staged_folder(tmp_path / "scratch"))
    one.make()
    return one


def copy_all(one: StagedSet) -> StagedSet:
    for item in one.missing():
        one.copy(item)
    one.finish()
    return one
