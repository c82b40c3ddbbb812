"""A packed data set on disk: shards of standard TFRecord and their index.  Free of TensorFlow.

    index.json                      what is in it: classes, counts, digests, the shards
    offsets.bin                     where each example begins in its shard: uint64, little-endian
    data-00000-of-00012.tfrecord    tf.Example records, in canonical order over all shards

The index in memory has an entry for each shard; where an example begins is read from
``offsets.bin`` when it is asked for, so neither grows with the number of examples.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from harness.data.scan import refuse
from harness.errors import DataError, Problem, StorageError
from harness.runs.files import read_json, sha256_file

INDEX, OFFSETS, WORK, PLAN = "index.json", "offsets.bin", ".packing", "plan.json"
"""Names in a packed set; WORK is a folder in one that is not finished, with PLAN in it."""
VERSION = 1
ORDER = "canonical 1"
"""In which order the examples stand: that of :data:`harness.data.order.CANONICAL_SEED`."""
FRAME_BYTES = 16
"""Of TFRecord around the content of a record: its length and two checksums."""
_OFFSET = struct.Struct("<Q")
_THREADS = 16


def shard_name(number: int, shards: int) -> str:
    """``data-00003-of-00012.tfrecord``, as TensorFlow's own tools name shards."""
    return f"data-{number:05d}-of-{shards:05d}.tfrecord"


@dataclass(frozen=True)
class Shard:
    """One file: its name, examples, bytes and the SHA-256 of its content."""

    file: str
    examples: int
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Extent:
    """Examples that stand one after the other in one file."""

    file: Path
    offset: int
    examples: int


class PackedIndex:
    """The index of a packed set.

    Attributes:
        root: its folder.
        classes: sorted; a label is a row of it.
        counts: examples of each class, in their order.
        digest: ``packed:`` and the SHA-256 over classes and shards.
        source_digest: of the data that were packed.
        content_bytes: bytes of the examples without the framing of the files.
    """

    def __init__(self, root: Path, data: dict[str, Any]) -> None:
        self.root = root
        self.classes = tuple(map(str, data["classes"]))
        self.counts = tuple(map(int, data["counts"]))
        self.shards = tuple(Shard(**shard) for shard in data["shards"])
        self.digest = str(data["digest"])
        self.source_digest = str(data["source_digest"])
        self.content_bytes = int(data["content_bytes"])
        self.options = dict(data["options"])
        self._starts = [0, *accumulate(shard.examples for shard in self.shards)]

    def __len__(self) -> int:
        return self._starts[-1]

    def extents(self, first: int, examples: int) -> list[Extent]:
        """Where the examples [first, first + examples) of the canonical order stand.

        Raises:
            ValueError: there are no such examples.
            DataError: ``offsets.bin`` is not whole.
        """
        if not 0 <= first <= first + examples <= len(self):
            raise ValueError(f"[{first}, {first + examples}) must lie within [0, {len(self)}]")
        found = []
        while examples:
            number = bisect_right(self._starts, first) - 1
            here = min(examples, self._starts[number + 1] - first)
            file = self.root / self.shards[number].file
            found.append(Extent(file, self._offset(first), here))
            first, examples = first + here, examples - here
        return found

    def place(self, position: int) -> str:
        """Where an example stands, in words."""
        number = bisect_right(self._starts, position) - 1
        return f"{self.shards[number].file}#{position - self._starts[number]}"

    def _offset(self, position: int) -> int:
        path = self.root / OFFSETS
        try:
            with path.open("rb") as file:
                raw = os.pread(file.fileno(), _OFFSET.size, position * _OFFSET.size)
        except OSError as error:
            raise DataError(f"{path} cannot be read", got=str(error.strerror)) from error
        if len(raw) != _OFFSET.size:
            raise _broken(path, f"no entry {position}", "an entry for each example")
        return int(_OFFSET.unpack(raw)[0])


def record_offsets(path: Path) -> array[int]:
    """Where each record of a TFRecord file begins, by the lengths that stand before them.

    Raises:
        OSError: it cannot be read.
        ValueError: it does not end with a record.
    """
    offsets, at, size = array("Q"), 0, path.stat().st_size
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            raw = file.read(_OFFSET.size)
            if len(raw) < _OFFSET.size:
                break
            offsets.append(at)
            at += int(_OFFSET.unpack(raw)[0]) + FRAME_BYTES
    if at != size:
        raise ValueError(f"{path.name} ends inside a record")
    return offsets


def is_packed(path: Path) -> bool:
    """Whether a folder is a packed set, finished or not."""
    try:
        return (path / WORK / PLAN).is_file() or is_index(read_json(path / INDEX))
    except (OSError, StorageError):
        return False  # whoever opens it meets the same, and says what it is


def is_index(data: Any) -> bool:
    """Whether the content of an ``index.json`` is that of a packed set, of whatever version."""
    return isinstance(data, dict) and "harness_packed" in data


def open_packed(path: str | Path) -> PackedIndex:
    """Opens a packed set and looks whether all its files are there, in their sizes.

    Raises:
        DataError: it is no packed set, is not finished, is of another version, or files of it are
            missing or cut; names them.
    """
    root = Path(path)
    try:
        data = read_json(root / INDEX)
    except FileNotFoundError:
        unfinished = (root / WORK).is_dir()
        raise DataError(
            f"{root} is not packed to its end" if unfinished else f"{root} is no packed set",
            got=f"no {INDEX}",
            action="run the same `harness pack` again, it goes on where it was"
            if unfinished
            else "make one with `harness pack SRC DST`",
        ) from None
    except StorageError as error:
        raise DataError(error.problems) from error
    index = checked(root, data)
    refuse(_missing(index))
    return index


def verify(index: PackedIndex) -> Iterator[Problem]:
    """Reads all files and holds them against their checksums; gives what is wrong."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        sums = pool.map(lambda shard: _sum(index.root / shard.file), index.shards)
        for shard, found in zip(index.shards, sums, strict=True):
            if found != shard.sha256:
                yield _other(
                    index.root / shard.file,
                    found if found.startswith("cannot") else f"sha256 {found[:16]}...",
                    f"sha256 {shard.sha256[:16]}...",
                )
    yield from _wrong_offsets(index)


def _wrong_offsets(index: PackedIndex) -> Iterator[Problem]:
    path = index.root / OFFSETS
    try:
        with path.open("rb") as file:
            for shard in index.shards:
                right = record_offsets(index.root / shard.file)
                if file.read(len(right) * _OFFSET.size) != right.tobytes():
                    yield _other(path, f"other places in {shard.file}", "where its records begin")
    except (OSError, ValueError) as error:
        yield _other(path, str(error), "an entry for each record")


def _other(path: Path, got: str, allowed: str) -> Problem:
    return Problem(
        f"{path} is not what was packed",
        got=got,
        allowed=allowed,
        action="delete it and run the same `harness pack` again",
    )


def checked(root: Path, data: Any) -> PackedIndex:
    """The index of a set from the content of its ``index.json``; looks at no other file.

    Raises:
        DataError: it is of another version, or not whole.
    """
    path = root / INDEX
    version = data.get("harness_packed") if isinstance(data, dict) else None
    if version != VERSION or data.get("order") != ORDER:
        raise DataError(
            f"{path} is of another version of harness, or of another program",
            got=f"harness_packed: {version!r}, order: "
            f"{data.get('order') if isinstance(data, dict) else None!r}",
            allowed=f"harness_packed: {VERSION}, order: {ORDER!r}",
            action="pack the data again with this version",
        )
    try:
        index = PackedIndex(root, data)
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(
            path, f"{type(error).__name__}: {error}", "what `harness pack` wrote"
        ) from None
    if sum(index.counts) != len(index) or len(index.counts) != len(index.classes):
        raise _broken(path, f"{sum(index.counts)} examples by class", f"{len(index)} by shard")
    return index


def _missing(index: PackedIndex) -> Iterator[Problem]:
    wanted = [(shard.file, shard.bytes) for shard in index.shards]
    wanted.append((OFFSETS, len(index) * _OFFSET.size))
    # A look at each file: most of the time goes into waiting for a network file system.
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes: Sequence[int | str] = list(pool.map(lambda one: _size(index.root / one[0]), wanted))
    for (name, size), found in zip(wanted, sizes, strict=True):
        if found != size:
            yield Problem(
                f"{index.root / name} is not as it was packed",
                got=f"{found} bytes" if isinstance(found, int) else found,
                allowed=f"{size} bytes",
                action="run the same `harness pack` again, which makes what is missing; storage "
                "that purges old files may have taken it",
            )


def _size(path: Path) -> int | str:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"


def _sum(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _broken(path: Path, got: str, allowed: str) -> DataError:
    return DataError(f"{path} is broken", got=got, allowed=allowed, action="pack the data again")
