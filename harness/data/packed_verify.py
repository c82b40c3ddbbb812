"""Holds a packed set against what was packed.  Free of TensorFlow."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.data.packed import FRAME_BYTES, OFFSET, PackedIndex
from harness.errors import Problem
from harness.runs.files import sha256_file


def verify(index: PackedIndex) -> Iterator[Problem]:
    """Reads all files and holds them against their checksums; gives what is wrong."""
    wanted = [(shard.file, shard.sha256) for shard in index.shards] + sorted(
        index.entry_sums.items()
    )
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        sums = pool.map(lambda one: _sum(index.root / one[0]), wanted)
        for (name, right), found in zip(wanted, sums, strict=True):
            if found != right:
                yield Problem(
                    f"{index.root / name} is not what was packed",
                    got=found if found.startswith("cannot") else f"sha256 {found[:16]}...",
                    allowed=f"sha256 {right[:16]}...",
                    action="delete it and run the same `harness pack` again",
                )


def record_offsets(path: Path) -> array[int]:
    """Where each record of a TFRecord file begins, by the lengths that stand before them.

    Raises:
        OSError: it cannot be read.
        ValueError: it does not end with a record.
    """
    offsets, at, size = array("Q"), 0, path.stat().st_size
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            raw = file.read(OFFSET.size)
            if len(raw) < OFFSET.size:
                break
            offsets.append(at)
            at += int(OFFSET.unpack(raw)[0]) + FRAME_BYTES
    if at != size:
        raise ValueError(f"{path.name} ends inside a record")
    return offsets


def _sum(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
