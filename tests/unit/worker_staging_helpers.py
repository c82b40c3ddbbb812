"""Staging on this machine's RAM disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MB = 1 << 20


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on this machine's RAM disk."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)
