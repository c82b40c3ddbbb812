"""Reads records of packed shards: large pieces, each checksum looked at.  Free of TensorFlow.

A window of examples is some hundred records in a few pieces.  TensorFlow's own reader would need
a data set for each piece, which takes longer to set up than the piece takes to read; and a changed
byte would end it, where here only the one example is lost.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
from google_crc32c import value as crc32c
from numpy.typing import NDArray

from harness.data.packed import OFFSETS, PackedIndex
from harness.errors import DataError

_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
_HEAD = _LENGTH.size + _CHECKSUM.size
_MASK_DELTA = 0xA282EAD8
MOST_SKIPPED = 8
"""Records between two that are wanted, up to which all are read: cheaper than another read."""


class Damaged(Exception):
    """A record is not what was packed; says why."""


def pieces(packed: PackedIndex, positions: NDArray[np.int64]) -> list[tuple[int, int]]:
    """What is read for examples: (first, number) of records that follow one another in a shard.

    Args:
        positions: canonical, ascending, each once.
    """
    shard = packed.shard_of(positions)
    breaks = (np.diff(positions) > MOST_SKIPPED + 1) | (np.diff(shard) != 0)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    ends = np.concatenate([starts[1:], [len(positions)]]) - 1
    return [
        (int(positions[a]), int(positions[b] - positions[a] + 1))
        for a, b in zip(starts, ends, strict=True)
    ]


def read_records(packed: PackedIndex, positions: NDArray[np.int64]) -> list[bytes]:
    """The records of examples; an empty one where it is damaged or cannot be read.

    Args:
        positions: canonical, ascending, each once; one or more.

    Raises:
        DataError: ``offsets.bin`` is not whole.
    """
    found: list[bytes] = []
    at = 0
    for first, number in pieces(packed, positions):
        piece = Piece(packed, first, number)
        last = int(np.searchsorted(positions, first + number))
        for position in positions[at:last].tolist():
            try:
                found.append(piece.record(position - first))
            except Damaged:
                found.append(b"")
        at = last
    return found


class Piece:
    """Records that follow one another in a shard, read at once.

    Raises:
        DataError: ``offsets.bin`` is not whole.
    """

    def __init__(self, packed: PackedIndex, first: int, number: int) -> None:
        (extent,) = packed.extents(first, number)
        inside = packed.entries(OFFSETS, first, number).astype(np.int64) - extent.offset
        self._bounds = [*inside.tolist(), extent.bytes]
        if any(b - a < _HEAD + _CHECKSUM.size for a, b in pairwise(self._bounds)):
            raise DataError(
                f"{packed.root / OFFSETS} is broken",
                got=f"no record between {self._bounds[0]} and {self._bounds[-1]}",
                action="delete it and run the same `harness pack` again",
            )
        self._fault, self._raw = "", b""
        try:
            self._raw = _read(extent.file, extent.offset, extent.bytes)
        except FileNotFoundError:
            self._fault = f"{extent.file.name} is missing"
        except OSError as error:
            self._fault = f"{extent.file.name} cannot be read: {error.strerror}"

    def record(self, number: int) -> bytes:
        """The content of a record.

        Raises:
            Damaged: it is not what was packed.
        """
        if self._fault:
            raise Damaged(self._fault)
        begin, end = self._bounds[number], self._bounds[number + 1]
        if end > len(self._raw):
            raise Damaged("its shard ends before it")
        (length,) = _LENGTH.unpack_from(self._raw, begin)
        content = self._raw[begin + _HEAD : end - _CHECKSUM.size]
        (sum_,) = _CHECKSUM.unpack_from(self._raw, end - _CHECKSUM.size)
        if length != len(content) or _masked(crc32c(content)) != sum_:
            raise Damaged("its record has a wrong checksum")
        return content


def _masked(checksum: int) -> int:
    """As TFRecord stores checksums: turned by 15 bits, and a constant added."""
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _read(path: Path, offset: int, size: int) -> bytes:
    """``size`` bytes from ``offset`` on; fewer where the file ends."""
    with path.open("rb", buffering=0) as file:
        raw = os.pread(file.fileno(), size, offset)
        # One call reads 2 GB at most, and some network file systems give less at a time.
        while 0 < len(raw) < size:
            more = os.pread(file.fileno(), size - len(raw), offset + len(raw))
            if not more:
                break
            raw += more
    return raw
