"""A packed data set on disk: shards of standard TFRecord and their index.  Free of TensorFlow.

    index.json                      what is in it: classes, counts, digests, the shards
    offsets.bin                     where each example begins in its shard: uint64, little-endian
    labels.bin                      the label of each example: int32, little-endian
    targets.bin                     in its place where examples have several labels or numbers
    keys.bin                        a hash of the name of each example: uint64, little-endian
    groups.bin                      a hash of the group of each example, where they have groups
    data-00000-of-00012.tfrecord    tf.Example records, in canonical order over all shards

The index in memory has an entry for each shard; what there is of each example stands in the
other files, which are read in pieces when it is asked for.  So nothing grows with the number of
examples.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.media import IMAGE, medium_of
from harness.data.nearby import Nearby
from harness.data.packed_facts import TARGETS, LabelFacts, learned_of, spread_of, targets_kind
from harness.data.scan import refuse
from harness.errors import DataError, Problem, StorageError
from harness.runs.files import read_json
from harness.spec.models_model import Learned

INDEX, WORK, PLAN = "index.json", ".packing", "plan.json"
"""Names in a packed set; WORK is a folder in one that is not finished, with PLAN in it."""
OFFSETS, LABELS, KEYS, GROUPS = "offsets.bin", "labels.bin", "keys.bin", "groups.bin"
ENTRIES = {OFFSETS: "<u8", LABELS: "<i4", KEYS: "<u8"}
"""Files with an entry for each example, and what numpy calls its type."""
KINDS = {**ENTRIES, GROUPS: "<u8"}
"""With those that a set has only where its examples have what they hold; see :func:`kinds_of`."""
VERSION = 1
ORDER = "canonical 1"
"""In which order the examples stand: that of :data:`harness.data.order.CANONICAL_SEED`."""
FRAME_BYTES = 16
"""Of TFRecord around the content of a record: its length and two checksums."""
OFFSET = struct.Struct("<Q")
_THREADS = 16


def kinds_of(learned: Learned, width: int) -> dict[str, str]:
    """:data:`KINDS` of sets of which this is learned; ``width`` labels or numbers at once."""
    if learned == "class":
        return KINDS
    others = {name: kind for name, kind in KINDS.items() if name != LABELS}
    return {**others, TARGETS: targets_kind(learned, width)}


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


class PackedIndex:
    """The index of a packed set.

    Attributes:
        root: its folder.
        classes: sorted; a label is a row of it.  Of several labels or numbers their names.
        learned: what the examples have.
        labels: what is known of several labels at once; None of another set.
        spread: how each target of a set of numbers is spread; none of another set.
        medium: what the examples are, by the name of a :class:`~harness.data.media.Medium`.
        counts: examples of each class, in their order; of several labels or numbers those that
            surely have it.
        digest: ``packed:`` and the SHA-256 over classes, shards and targets.
        source_digest: of the data that were packed.
        content_bytes: bytes of the examples without the framing of the files.
        kinds: its files with an entry for each example, see :data:`KINDS`.
        missing: what the data that were packed lacked, by kind.
        near: copies of its files on this node, which are read first where they are there.
    """

    def __init__(self, root: Path, data: dict[str, Any]) -> None:
        self.root = root
        self.near: Nearby | None = None
        self.classes = tuple(map(str, data["classes"]))
        # Sets of pictures were there first, and need not say so.
        self.medium = medium_of(str(data.get("medium", IMAGE.name))).name
        self.counts = tuple(map(int, data["counts"]))
        self.shards = tuple(Shard(**shard) for shard in data["shards"])
        self.digest = str(data["digest"])
        self.source_digest = str(data["source_digest"])
        self.content_bytes = int(data["content_bytes"])
        self.options = dict(data["options"])
        self.learned = learned_of(data)
        self.labels = LabelFacts.of_json(data) if self.learned == "labels" else None
        self.spread = spread_of(data) if self.learned == "numbers" else ()
        kinds = kinds_of(self.learned, len(self.classes))
        needed = {*ENTRIES, TARGETS, *data["entries"]}
        self.kinds = {name: kind for name, kind in kinds.items() if name in needed}
        self.entry_sums = {name: str(data["entries"][name]) for name in self.kinds}
        self.missing = {str(kind): int(n) for kind, n in dict(data.get("missing", {})).items()}
        self._starts = [0, *accumulate(shard.examples for shard in self.shards)]

    def __len__(self) -> int:
        return self._starts[-1]

    def bounds(self, first: int, examples: int, *, near: bool = False) -> tuple[Path, list[int]]:
        """Where the examples [first, first + examples) of the canonical order stand.

        Args:
            near: ask the copies on this node, if there are any, before the set itself.

        Returns:
            Their shard, and the bytes at which each of them begins and the last one ends.

        Raises:
            ValueError: there are no such examples in one shard.
            DataError: ``offsets.bin`` is not whole.
        """
        number = bisect_right(self._starts, first) - 1
        last = first + examples
        if not (0 <= first < last <= len(self) and last <= self._starts[number + 1]):
            raise ValueError(f"[{first}, {last}) must lie within one shard")
        shard, ends = self.shards[number], last == self._starts[number + 1]
        found = self.entries(OFFSETS, first, examples + (not ends), near=near).tolist()
        found += [shard.bytes] if ends else []
        if found[-1] > shard.bytes or any(b - a < FRAME_BYTES for a, b in pairwise(found)):
            raise DataError(
                f"{self.root / OFFSETS} is broken",
                got=f"{examples} records in the bytes {found[0]} to {found[-1]} of {shard.file}",
                allowed=f"{shard.bytes} bytes in all, {FRAME_BYTES} or more for a record",
                action="delete it and run the same `harness pack` again",
            )
        return self.root / shard.file, found

    def shard_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the shards that hold examples, by their canonical positions."""
        return np.searchsorted(self._starts, positions, side="right") - 1

    def place(self, position: int) -> str:
        """Where an example stands, in words."""
        number = bisect_right(self._starts, position) - 1
        return f"{self.shards[number].file}#{position - self._starts[number]}"

    def entries(self, name: str, first: int, count: int, *, near: bool = False) -> NDArray[Any]:
        """What the file ``name`` (one of ``kinds``) holds of [first, first + count).

        Args:
            near: see :meth:`bounds`.

        Raises:
            DataError: it is not whole.
        """
        path, kind = self.root / name, np.dtype(self.kinds[name])
        if near and self.near is not None:
            held = self.near.read(name, first * kind.itemsize, count * kind.itemsize)
            if held is not None:
                return np.frombuffer(held, kind)
        try:
            with path.open("rb") as file:
                raw = os.pread(file.fileno(), count * kind.itemsize, first * kind.itemsize)
        except OSError as error:
            raise DataError(f"{path} cannot be read", got=str(error.strerror)) from error
        if len(raw) != count * kind.itemsize:
            raise _broken(path, f"no entry {first + count - 1}", "an entry for each example")
        return np.frombuffer(raw, kind)


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
    is_whole = index.learned != "class" or sum(index.counts) == len(index)
    if not is_whole or len(index.counts) != len(index.classes):
        raise _broken(path, f"{sum(index.counts)} examples by class", f"{len(index)} by shard")
    return index


def _missing(index: PackedIndex) -> Iterator[Problem]:
    wanted = [(shard.file, shard.bytes) for shard in index.shards]
    wanted += [(name, len(index) * np.dtype(kind).itemsize) for name, kind in index.kinds.items()]
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


def _broken(path: Path, got: str, allowed: str) -> DataError:
    return DataError(f"{path} is broken", got=got, allowed=allowed, action="pack the data again")
