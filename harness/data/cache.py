"""Decoded examples that are kept from one epoch to the next, in memory or on the node's disk.

Each rank keeps its own: its lanes, and so its examples, are the same in every epoch.  What is kept
is what would have been decoded, bit by bit, so a run with a cache is the run without.  Free of
TensorFlow.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

_OVERHEAD = 256
"""Bytes that Python takes for an entry, beside its content."""


class Store(Protocol):
    """Where contents are kept."""

    def add(self, content: bytes) -> int:
        """Keeps a content; gives the number to get it by.

        Raises:
            OSError: it cannot be kept.
        """

    def get(self, number: int) -> bytes:
        """A content that was kept; b"" where it cannot be read any more."""

    def clear(self) -> None:
        """Forgets all."""


class InMemory:
    """Contents in the memory of this process."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []

    def add(self, content: bytes) -> int:
        self._kept.append(content)
        return len(self._kept) - 1

    def get(self, number: int) -> bytes:
        return self._kept[number]

    def clear(self) -> None:
        self._kept.clear()


class OnDisk:
    """Contents in a file without a name, which is gone with this process however it ends.

    Args:
        folder: on a disk of this node.

    Raises:
        OSError: no file can be made there.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as this
        self._end = 0
        self._parts: list[tuple[int, int]] = []

    def add(self, content: bytes) -> int:
        at, left = self._end, memoryview(content)
        while left:
            written = os.pwrite(self._file.fileno(), left, at)
            at, left = at + written, left[written:]
        self._parts.append((self._end, len(content)))
        self._end = at
        return len(self._parts) - 1

    def get(self, number: int) -> bytes:
        at, count = self._parts[number]
        try:
            content = os.pread(self._file.fileno(), count, at)
        except OSError:
            return b""
        return content if len(content) == count else b""

    def clear(self) -> None:
        self._parts.clear()
        self._end = 0
        os.ftruncate(self._file.fileno(), 0)


class DecodedCache:
    """Examples by their row; safe to use from several threads.

    What does not fit any more is not kept: it is decoded anew in every epoch, and :attr:`full`
    says so.

    Args:
        store: where they are kept.
        room: bytes that may be taken.
    """

    def __init__(self, store: Store, room: int) -> None:
        self._store, self._room = store, room
        self._lock = threading.Lock()
        self._numbers: dict[int, int] = {}
        self._kind: object = None
        self.bytes = 0
        self.full = ""
        """Why no more is kept; empty where nothing was refused."""

    def __len__(self) -> int:
        return len(self._numbers)

    def begin(self, kind: object) -> None:
        """What is kept from now on is of this kind; what was of another one is forgotten."""
        with self._lock:
            if kind == self._kind:
                return
            self._kind = kind
            self._numbers.clear()
            self._store.clear()
            self.bytes, self.full = 0, ""

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The contents of ``rows`` [n]: bytes objects, b"" of what is not kept."""
        found = np.empty(len(rows), object)
        with self._lock:
            numbers: Sequence[int | None] = [self._numbers.get(row) for row in rows.tolist()]
        found[:] = [b"" if number is None else self._store.get(number) for number in numbers]
        return found

    def keep(self, row: int, content: bytes) -> None:
        """Keeps one example, if there is room and it is not kept yet."""
        with self._lock:
            if row in self._numbers or self.full:
                return
            taken = len(content) + _OVERHEAD
            if self.bytes + taken > self._room:
                self.full = "there is no more room"
                return
            try:
                self._numbers[row] = self._store.add(content)
            except OSError as error:
                self.full = str(error.strerror or error)
                return
            self.bytes += taken
