"""Features of frozen backbones on disk, shared by all runs.  Free of TensorFlow.

An *entry* is the features of the examples of one set, computed by one backbone from one way of
preparing them: a folder whose name is the SHA-256 of everything that decides what is in it.

    entry.json          what that is, and the layout
    chunk-00012.bin     the features of some consecutive examples of the canonical order
    used                its modification time tells when a run has last read from it

A chunk appears whole or not at all, and is never changed: who computes an entry that another run
computes too does work twice and harms nothing.  Chunks hold, one after the other, features
[rows, ...], the state of each row (uint8), its weight (float32), and a checksum of all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google_crc32c import value as crc32c
from numpy.typing import NDArray

from harness.data.feature_file import FileChunk
from harness.errors import StorageError
from harness.runs.files import GROUP, PRIVATE, is_group_folder, make_dir, write_atomic
from harness.runs.storage import storage_error

FEATURES = "features"
"""Folder of the entries in the cache root."""
ENTRY, USED = "entry.json", "used"
FORMAT = 1
"""Part of every key: entries of another format are others."""
ABSENT, GOOD, BAD = 0, 1, 2
"""States of a row: no example of this entry, its features, or an example that is corrupt."""

_TRAILER = struct.Struct("<4sI")
_MAGIC = b"HFC1"
_MOST_CHUNKS, _LEAST_ROWS, _MOST_BYTES = 1024, 256, 64 << 20
"""Few files on shared storage; but what a stop loses is a chunk, and what a rank has in memory some
of them, so they are not large either."""
_TOUCH_S = 60.0


@dataclass(frozen=True)
class Layout:
    """How the features of an entry lie in its files.

    Attributes:
        examples: positions of the canonical order.
        rows: of a chunk; the last one may have fewer.
        shape: of the features of one example.
        dtype: in which they are stored, ``float16`` or ``float32``.
    """

    examples: int
    rows: int
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, examples: int, shape: Sequence[int], dtype: str) -> Layout:
        """The layout of so many examples."""
        row_bytes = max(1, math.prod(shape) * np.dtype(dtype).itemsize)
        rows = min(-(-examples // _MOST_CHUNKS), _MOST_BYTES // row_bytes)
        return cls(examples, max(_LEAST_ROWS, rows), tuple(shape), dtype)

    @property
    def chunks(self) -> int:
        """How many there are."""
        return -(-self.examples // self.rows)

    @property
    def row_bytes(self) -> int:
        """Of the features of one example."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def bytes(self) -> int:
        """Of all chunks."""
        return self.examples * (self.row_bytes + 5) + self.chunks * _TRAILER.size

    def span(self, number: int) -> tuple[int, int]:
        """The positions [first, last) of a chunk."""
        return number * self.rows, min((number + 1) * self.rows, self.examples)


class Chunk(NamedTuple):
    """Features [rows, ...], uint8 states [rows] and float32 weights [rows]."""

    features: NDArray[Any]
    state: NDArray[np.uint8]
    weight: NDArray[np.float32]

    def features_of(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Features [n, ...] of rows."""
        return self.features[rows]


def key_of(facts: Mapping[str, Any], layout: Layout) -> str:
    """SHA-256 over everything that decides what is in an entry.

    Args:
        facts: JSON values.
    """
    held = {"format": FORMAT, **facts, "layout": asdict(layout)}
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


class Entry:
    """One entry, which need not be there yet.

    Args:
        root: the cache root.
        facts: see :func:`key_of`.
    """

    def __init__(self, root: Path, facts: Mapping[str, Any], layout: Layout) -> None:
        self.layout, self._facts = layout, dict(facts)
        self.key = key_of(facts, layout)
        self.folder = root / FEATURES / self.key
        self._touched = -math.inf

    def make(self, *, private: bool = False) -> None:
        """Makes its folder, as open to others as the cache root is.

        Args:
            private: not even then: nobody else is to read it.

        Raises:
            StorageError: it cannot be written.
        """
        root = self.folder.parent.parent
        make_dir(self.folder, GROUP if is_group_folder(root) and not private else PRIVATE)
        if not (self.folder / ENTRY).exists():
            said = {**self._facts, "layout": asdict(self.layout), "format": FORMAT}
            write_atomic(self.folder / ENTRY, json.dumps(said, indent=1) + "\n")
        self.touch()

    def touch(self) -> None:
        """Notes that it is in use; more often than once a minute does nothing.

        Where it cannot be noted nothing is raised: then somebody may take it for unused and remove
        it, which whoever reads it says.
        """
        now = time.monotonic()
        if now - self._touched < _TOUCH_S:
            return
        self._touched = now
        try:
            os.utime(self.folder / USED)
        except OSError:
            with contextlib.suppress(StorageError):
                write_atomic(self.folder / USED, "", sync=False)

    def missing(self) -> list[int]:
        """Numbers of the chunks that are not there, or not of their size, ascending.

        Raises:
            StorageError: its folder cannot be looked into.
        """
        try:
            sizes = {one.name: one.stat().st_size for one in os.scandir(self.folder)}
        except FileNotFoundError:
            sizes = {}
        except OSError as error:
            raise storage_error(error, self.folder) from error
        numbers = range(self.layout.chunks)
        return [n for n in numbers if sizes.get(_name(n)) != self._size(n)]

    def remove(self, numbers: Iterable[int]) -> None:
        """Takes chunks away, as far as that is possible."""
        for number in numbers:
            with contextlib.suppress(OSError):
                (self.folder / _name(number)).unlink()

    def write(self, number: int, chunk: Chunk) -> None:
        """Puts a chunk there, durably.

        Raises:
            StorageError: it cannot be written.
        """
        parts = [
            np.ascontiguousarray(chunk.features, self.layout.dtype).tobytes(),
            np.ascontiguousarray(chunk.state, np.uint8).tobytes(),
            np.ascontiguousarray(chunk.weight, "<f4").tobytes(),
        ]
        raw = b"".join(parts)
        write_atomic(self.folder / _name(number), raw + _TRAILER.pack(_MAGIC, crc32c(raw)))

    def read(self, number: int) -> Chunk | None:
        """A chunk; None where it is not there or not what was written.

        Raises:
            StorageError: the file system fails.
        """
        try:
            raw = np.fromfile(self.folder / _name(number), np.uint8)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, self.folder / _name(number)) from error
        if len(raw) != self._size(number):
            return None
        magic, checksum = _TRAILER.unpack(raw[-_TRAILER.size :].tobytes())
        if magic != _MAGIC or crc32c(raw[: -_TRAILER.size]) != checksum:
            return None
        return self._parts(number, raw)

    def opened(self, number: int) -> FileChunk:
        """A chunk of which only what is looked at is read; its checksum is not.

        Raises:
            OSError: it is not there any more, or the file system fails.
        """
        layout = self.layout
        return FileChunk(self.path_of(number), self._rows(number), layout.shape, layout.dtype)

    def path_of(self, number: int) -> Path:
        """File of a chunk."""
        return self.folder / _name(number)

    def _parts(self, number: int, raw: NDArray[np.uint8]) -> Chunk:
        rows = self._rows(number)
        ends = np.cumsum([rows * self.layout.row_bytes, rows, 4 * rows]).tolist()
        features = raw[: ends[0]].view(np.dtype(self.layout.dtype))
        # Not aligned where the features are of an odd number of bytes, so weights are copied.
        weight = np.frombuffer(raw[ends[1] : ends[2]].tobytes(), "<f4")
        return Chunk(
            features.reshape(rows, *self.layout.shape), np.array(raw[ends[0] : ends[1]]), weight
        )

    def _rows(self, number: int) -> int:
        first, last = self.layout.span(number)
        return last - first

    def _size(self, number: int) -> int:
        return self._rows(number) * (self.layout.row_bytes + 5) + _TRAILER.size


def sweep(folder: Path, older_s: float = 24 * 3600.0) -> None:
    """Removes what writers that were killed have left in an entry.

    Args:
        older_s: as long as a temporary may belong to somebody who still writes it.
    """
    for path in folder.glob(".*.tmp"):
        try:
            if time.time() - path.stat().st_mtime > older_s:
                path.unlink()
        except OSError:  # somebody else's, or swept by another run at the same time
            continue


def digest_of_contents(parts: Iterable[bytes]) -> str:
    """SHA-256 over byte strings, in their order."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()


def _name(number: int) -> str:
    return f"chunk-{number:05d}.bin"
