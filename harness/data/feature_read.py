"""Reads the features of examples, in any order.  Free of TensorFlow."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.feature_file import FileChunk
from harness.data.feature_store import Chunk, Entry
from harness.errors import StorageError

_OPEN = 256
"""Chunks that are open at once beside those in memory; a process may open 1,024 files."""


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
        instead: what is known of examples by their positions, where the cache cannot be read any
            more; None has that be an error.

    Attributes:
        failure: why the cache could not be read, once ``instead`` was asked.
    """

    def __init__(
        self,
        entry: Entry,
        room: Room,
        instead: Callable[[NDArray[np.int64]], Taken] | None = None,
    ) -> None:
        self.entry = entry
        self.failure: str | None = None
        self._room, self._instead = room, instead
        self._held: dict[int, Chunk] = {}
        self._lock = threading.Lock()
        with _files_lock:  # chunks may have been written anew since others read them
            for at in [at for at in _files if at[0] == str(entry.folder)]:
                del _files[at]

    def take(self, positions: NDArray[np.int64]) -> Taken:
        """What is known of examples.

        Args:
            positions: canonical, in any order, with repeats.

        Raises:
            StorageError: a chunk has gone or cannot be read, and nothing gives it instead.
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
        lost = []
        for one, places in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            try:
                self._read(one, inside[places], found, places)
            except (OSError, StorageError) as error:
                self._cannot_read(one, error)
                lost.append(places)
        if lost:
            assert self._instead is not None, "else it has raised"
            places = np.concatenate(lost)
            taken = self._instead(positions[places])
            found.features[places] = taken.features
            found.state[places] = taken.state
            found.weight[places] = taken.weight
        return found

    def _read(
        self, number: int, rows: NDArray[np.int64], found: Taken, places: NDArray[np.int64]
    ) -> None:
        chunk = self._chunk(number)
        found.features[places] = chunk.features_of(rows)
        found.state[places] = chunk.state[rows]
        found.weight[places] = chunk.weight[rows]

    def _cannot_read(self, number: int, error: OSError | StorageError) -> None:
        path = self.entry.path_of(number)
        said = error.strerror or error if isinstance(error, OSError) else error.problems[0].got
        if self._instead is None:
            raise StorageError(
                "features that this run reads have gone from the cache, or cannot be read",
                got=f"{path}: {said}",
                action="run the same command again: they are computed again; where that disk "
                "fails, export HARNESS_CACHE=FOLDER, on another one, first",
            ) from error
        self.failure = f"{path}: {said}"

    def _chunk(self, number: int) -> Chunk | FileChunk:
        with self._lock:
            held = self._held.get(number)
            if held is None and self._room.take(
                self.entry.layout.rows * self.entry.layout.row_bytes
            ):
                held = self.entry.read(number)
                if held is not None:
                    self._held[number] = held
        return held if held is not None else _opened(self.entry, number)


_files: OrderedDict[tuple[str, int], FileChunk] = OrderedDict()
_files_lock = threading.Lock()


def _opened(entry: Entry, number: int) -> FileChunk:
    """A chunk that is open, and kept so with those that were last asked for, of all entries."""
    at = (str(entry.folder), number)
    with _files_lock:
        chunk = _files.pop(at, None)
        if chunk is None:
            chunk = entry.opened(number)
        _files[at] = chunk
        if len(_files) > _OPEN:
            _files.popitem(last=False)
        return chunk
