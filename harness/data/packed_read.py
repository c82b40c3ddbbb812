"""Reads records of packed shards: large pieces, each checksum looked at.  Free of TensorFlow.

A window of examples is some hundred records in a few pieces.  TensorFlow's own reader would need
a data set for each piece, which takes longer to set up than the piece takes to read; and a changed
byte would end it, where here only the one example is lost.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from google_crc32c import value as crc32c
from numpy.typing import NDArray

from harness.data.frames import CHECKSUM, HEAD, LENGTH, masked
from harness.data.nearby import Room, read_at
from harness.data.packed import OFFSETS, PackedIndex
from harness.errors import DataError

MOST_SKIPPED = 8
"""Records between two that are wanted, up to which all are read: cheaper than another read."""

_MOST_BYTES = 16 << 20
"""About how much is read at once: more would need more memory, and be no faster."""


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


def read_records(
    packed: PackedIndex, positions: NDArray[np.int64], room: Room | None = None
) -> Iterator[memoryview]:
    """The records of examples, one by one; an empty one where it is damaged or cannot be read.

    Each is what it is until the next one is asked for, see :class:`~harness.data.nearby.Room`.

    Args:
        positions: canonical, ascending, each once; one or more.
        room: that of the thread that reads; None makes one.

    Raises:
        DataError: ``offsets.bin`` is not whole.
    """
    room, at = room or Room(), 0
    for first, number in _reads(packed, positions):
        piece = Piece(packed, first, number, room)
        last = int(np.searchsorted(positions, first + number))
        for position in positions[at:last].tolist():
            try:
                yield piece.record(position - first)
            except Damaged:
                yield memoryview(b"")
        at = last


def _reads(packed: PackedIndex, positions: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """:func:`pieces`, of which long ones are read in parts."""
    most = max(1, int(_MOST_BYTES * len(packed) / max(1, packed.content_bytes)))
    for first, number in pieces(packed, positions):
        for begin in range(first, first + number, most):
            yield begin, min(most, first + number - begin)


class Piece:
    """Records that follow one another in a shard, read at once.

    They are read from the copy on this node where there is one.  A record that is damaged there is
    looked up in the set itself, which has the last word; then that copy is used no more.

    Args:
        room: where they are read to, and stand until something else is; None keeps them.

    Raises:
        DataError: ``offsets.bin`` is not whole.
    """

    def __init__(
        self, packed: PackedIndex, first: int, number: int, room: Room | None = None
    ) -> None:
        self._packed, self._first, self._number = packed, first, number
        self._room = room or Room()
        self._near = packed.near is not None
        self._bounds: list[int] = []
        self._fault, self._raw = "", _NOTHING
        try:
            self._load()
        except DataError:
            if not self._near:
                raise
            self._read_the_set()

    def record(self, number: int) -> memoryview:
        """The content of a record, where it was read: copied, it would need its memory twice.

        Raises:
            Damaged: it is not what was packed.
        """
        try:
            return self._record(number)
        except Damaged:
            if not self._near:
                raise
            self._read_the_set()
            return self._record(number)

    def _load(self) -> None:
        where = (self._first, self._number)
        self._file, self._bounds = self._packed.bounds(*where, near=self._near)
        self._fault, self._raw = "", _NOTHING
        try:
            self._raw = self._content()
        except FileNotFoundError:
            self._fault = f"{self._file.name} is missing"
        except OSError as error:
            self._fault = f"{self._file.name} cannot be read: {error.strerror}"

    def _content(self) -> NDArray[np.uint8]:
        begin, held = self._bounds[0], None
        size = self._bounds[-1] - begin
        if self._near and self._packed.near is not None:
            held = self._packed.near.read(self._file.name, begin, size, self._room)
        return read_at(self._file, begin, size, self._room) if held is None else held

    def _read_the_set(self) -> None:
        """Reads all of it once more, past the copies, and drops that copy which says else."""
        near, bounds, raw = self._packed.near, self._bounds, self._raw.copy()
        assert near is not None, "only a copy is read again"
        self._near = False
        self._load()
        if bounds != self._bounds:
            near.drop(OFFSETS, "says else than the set")
        elif not np.array_equal(raw, self._raw) and not self._fault:
            near.drop(self._file.name, "holds else than the set")

    def _record(self, number: int) -> memoryview:
        if self._fault:
            raise Damaged(self._fault)
        start = self._bounds[0]
        begin, end = self._bounds[number] - start, self._bounds[number + 1] - start
        if end > len(self._raw):
            raise Damaged("its shard ends before it")
        (length,) = LENGTH.unpack_from(self._raw.data, begin)
        first, last = begin + HEAD, end - CHECKSUM.size
        (sum_,) = CHECKSUM.unpack_from(self._raw.data, last)
        # Sums are made of bytes or arrays, of which only these are parted without a copy.
        record = self._raw[first:last]
        if length != last - first or masked(crc32c(record)) != sum_:
            raise Damaged("its record has a wrong checksum")
        return record.data


_NOTHING = np.empty(0, np.uint8)
