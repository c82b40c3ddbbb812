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
from pathlib import Path


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

    def read(self, name: str, offset: int, size: int) -> bytes | None:
        """``size`` bytes from ``offset`` on; None where there is no whole copy."""
        if name in self._refused:
            return None
        try:
            raw = read_at(self.folder / name, offset, size)
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


def read_at(path: Path, offset: int, size: int) -> bytes:
    """``size`` bytes from ``offset`` on; fewer where the file ends.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        raw = os.pread(file.fileno(), size, offset)
        # One call reads 2 GB at most, and some network file systems give less at a time.
        while 0 < len(raw) < size:
            more = os.pread(file.fileno(), size - len(raw), offset + len(raw))
            if not more:
                break
            raw += more
    return raw
