"""A chunk of features whose rows are read from its file where they are looked at.

Not mapped: of a mapped file that becomes shorter, or whose disk fails, the system ends the process
(SIGBUS), where a read says what is wrong.
"""

from __future__ import annotations

import errno
import math
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class FileChunk:
    """An open file of features [rows, ...]; safe to use from several threads.

    Attributes:
        state: uint8 [rows], read when it is opened.
        weight: float32 [rows], likewise.

    Raises:
        OSError: it is not there, too short, or the file system fails.
    """

    def __init__(self, path: Path, rows: int, shape: Sequence[int], dtype: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._shape, self._dtype = tuple(shape), np.dtype(dtype)
        self._row_bytes = math.prod(shape) * self._dtype.itemsize
        tail = np.empty(rows * 5, np.uint8)
        self._fill(tail, rows * self._row_bytes)
        self.state = tail[:rows].copy()
        # Not aligned where the rows are of an odd number, so weights are copied.
        self.weight = np.frombuffer(tail[rows:].tobytes(), "<f4")

    def features_of(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Features [n, ...] of rows in ascending order, with repeats.

        Raises:
            OSError: the file system fails, or the file has become shorter.
        """
        found = np.empty((len(rows), *self._shape), self._dtype)
        flat = found.reshape(-1).view(np.uint8).reshape(len(rows), self._row_bytes)
        begins = np.flatnonzero(np.diff(rows, prepend=-2) != 1).tolist()
        for first, last in zip(begins, [*begins[1:], len(rows)], strict=True):
            self._fill(flat[first:last], int(rows[first]) * self._row_bytes)
        return found

    def _fill(self, into: NDArray[np.uint8], offset: int) -> None:
        left = into.data.cast("B")
        while left:
            count = os.preadv(self._descriptor, [left], offset)
            if not count:
                raise OSError(errno.EIO, "the file has become shorter")
            left, offset = left[count:], offset + count
