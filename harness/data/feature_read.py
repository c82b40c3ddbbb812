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


class Room:
    """Bytes of chunks that all readers of a phase together may hold in memory."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Takes so many of them, if they are left."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True


class FeatureReader:
    """The features of an entry that is whole; safe to use from several threads.

    Args:
        room: for chunks that are held in memory; the others are read from their files where they
            are looked at.
    """

    def __init__(self, entry: Entry, room: Room) -> None:
        self.entry = entry
        self._room = room
        self._held: dict[int, Chunk] = {}
        self._lock = threading.Lock()
        with _maps_lock:  # chunks may have been written anew since others read them
            for at in [at for at in _maps if at[0] == str(entry.folder)]:
                del _maps[at]

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
            if held is None and self._room.take(
                self.entry.layout.rows * self.entry.layout.row_bytes
            ):
                held = self.entry.read(number)
                if held is not None:
                    self._held[number] = held
        return held if held is not None else _mapped(self.entry, number)


_maps: OrderedDict[tuple[str, int], Chunk] = OrderedDict()
_maps_lock = threading.Lock()


def _mapped(entry: Entry, number: int) -> Chunk:
    """A chunk that is mapped, and kept so with those that were last asked for, of all entries."""
    at = (str(entry.folder), number)
    with _maps_lock:
        chunk = _maps.pop(at, None)
        if chunk is None:
            chunk = entry.mapped(number)
        _maps[at] = chunk
        if len(_maps) > _OPEN:
            _maps.popitem(last=False)
        return chunk
