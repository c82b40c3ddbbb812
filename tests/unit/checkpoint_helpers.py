"""What the checkpoint tests share."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rights import mount_tmpfs

from harness.checkpoint import Store


def new_store(
    folder: Path, keep: int = 3, access: str = "private", **options: Any
) -> tuple[Store, list[str]]:
    """A store and the list that its log goes to."""
    said: list[str] = []
    return Store(folder, keep=keep, access=access, log=said.append, **options), said


def flip_bit(path: Path, bit: int) -> None:
    """Flips one bit of a file, counted from its beginning."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(data)


def names(folder: Path) -> list[str]:
    """Sorted names in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A tmpfs of ``size`` mounted on ``folder``; the test is skipped where that is not allowed,
    but not in CI.
    """
    folder.mkdir(exist_ok=True)
    mount_tmpfs(folder, f"size={size}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(folder: Path) -> None:
    """Remounts what :func:`small_disk` mounted read-only; root is stopped by nothing less."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
