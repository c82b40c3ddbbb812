"""Reads the features of examples, in any order.  Free of TensorFlow."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.feature_store import Chunk, Entry

_OPEN = 256
"""Chunks that are mapped at once beside those in memory; a process may open 1,024 files."""


class Taken(NamedTuple):
    """Float32 features [n, ...], uint8 states [n] and float32 weights [n]."""

    features: NDArray[np.float32]
    state: NDArray[np.uint8]
    weight: NDArray[np.float32]


class FeatureReader:
    """The features of an entry that is whole; safe to use from several threads.

    Args:
        room: bytes of chunks that are held in memory; the others are read from their files where
            they are looked at.
    """

    def __init__(self, entry: Entry, room: int) -> None:
        self.entry = entry
        self._room = room
        self._held: dict[int, Chunk] = {}
        self._mapped: OrderedDict[int, Chunk] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, positions: NDArray[np.int64]) -> Taken:
        """What is known of examples.

        Args:
            positions: canonical, in any order, with repeats.

        Raises:
            StorageError: a chunk has gone.
        """
        layout = self.entry.layout
        number, inside = np.divmod(positions, layout.rows)
        found = Taken(
            np.empty((len(positions), *layout.shape), np.float32),
            np.empty(len(positions), np.uint8),
            np.empty(len(positions), np.float32),
        )
        if not len(positions):
            return found
        # By chunk, so that each is looked up once and read from front to back.
        order = np.argsort(positions, kind="stable")
        numbers, starts = np.unique(number[order], return_index=True)
        for one, places in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            chunk, rows = self._chunk(one), inside[places]
            found.features[places] = chunk.features[rows]
            found.state[places] = chunk.state[rows]
            found.weight[places] = chunk.weight[rows]
        return found

    def _chunk(self, number: int) -> Chunk:
        with self._lock:
            held = self._held.get(number)
            if held is not None:
                return held
            chunk = self._mapped.get(number)
            if chunk is None:
                chunk = self._opened(number)
            if number in self._mapped:
                self._mapped.move_to_end(number)
            return chunk

    def _opened(self, number: int) -> Chunk:
        size = self.entry.layout.rows * self.entry.layout.row_bytes
        if size <= self._room:
            chunk = self.entry.read(number)
            if chunk is not None:
                self._room -= size
                self._held[number] = chunk
                return chunk
        chunk = self._mapped[number] = self.entry.mapped(number)
        if len(self._mapped) > _OPEN:
            self._mapped.popitem(last=False)
        return chunk
