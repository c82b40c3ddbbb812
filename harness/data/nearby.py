"""Copies of a data set's files on this node, read in place of those on shared storage.

A copy gets its name only once it is whole and verified (:mod:`harness.data.staging`), so a name
that is there is all that a reader asks for.  What is gone or damaged is told and read from the set
itself; a copy never costs an example.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.runs.patience import patiently


class Nearby:
    """The copies in a folder; any thread may read.

    Args:
        folder: need not be there yet.
        tell: hears, once for each file and from any thread, that a copy has been lost: the name of
            the file, and in words what became of it.
    """

    def __init__(self, folder: Path, tell: Callable[[str, str], None]) -> None:
        self.folder = folder
        self._tell = tell
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._told: set[str] = set()
        self._refused: set[str] = set()

    def read(
        self, name: str, offset: int, size: int, room: Room | None = None
    ) -> NDArray[np.uint8] | None:
        """``size`` bytes from ``offset`` on; None where there is no whole copy.

        Args:
            room: see :func:`read_at`.
        """
        if name in self._refused:
            return None
        try:
            raw = read_at(self.folder / name, offset, size, room)
        except FileNotFoundError:
            if name in self._seen:
                self._lost(name, "has vanished")
            return None
        except OSError as error:  # such as a disk that fails: no use in asking it again and again
            self._refused.add(name)
            self._lost(name, f"cannot be read ({error.strerror})")
            return None
        if len(raw) < size:
            self.drop(name, "was cut")
            return None
        self._seen.add(name)
        return raw

    def drop(self, name: str, why: str) -> None:
        """Removes a copy that is not what it should be, so that nobody reads it again."""
        self._refused.add(name)
        with contextlib.suppress(OSError):
            (self.folder / name).unlink()
        self._lost(name, why)

    def _lost(self, name: str, why: str) -> None:
        with self._lock:
            self._seen.discard(name)
            if name in self._told:
                return
            self._told.add(name)
        self._tell(name, why)


class Room:
    """Memory that one thread reads into again and again.

    Fresh memory costs more than to read into it from the system's cache: each page of it is cleared
    first (measured: a third of the processor time of reading packed shards).
    """

    def __init__(self) -> None:
        self._held = np.empty(0, np.uint8)

    def of(self, size: int) -> NDArray[np.uint8]:
        """``size`` bytes, which are what they are until the next call."""
        if len(self._held) < size:
            self._held = np.empty(size + size // 4, np.uint8)
        return self._held[:size]


def read_at(path: Path, offset: int, size: int, room: Room | None = None) -> NDArray[np.uint8]:
    """``size`` bytes from ``offset`` on; fewer where the file ends.

    What passes on network file systems is waited out.

    Args:
        room: where they are put, until something else is; None gives them memory of their own.

    Raises:
        OSError: it cannot be read.
    """
    return patiently(partial(_read_at, path, offset, (room or Room()).of(size)))


def _read_at(path: Path, offset: int, found: NDArray[np.uint8]) -> NDArray[np.uint8]:
    at, size = 0, len(found)
    with path.open("rb", buffering=0) as file:
        # One call reads 2 GB at most, and some network file systems give less at a time.
        while at < size:
            more = os.preadv(file.fileno(), [found[at:].data], offset + at)
            if not more:
                break
            at += more
    return found[:at]
