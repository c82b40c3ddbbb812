"""Packs a data set: which examples go into which shard, and how far that has come.

A folder is packed by any number of processes in any number of starts.  Each shard is written to a
temporary file, synced and renamed, and only then noted; who finds all shards noted writes the
index.
"""

from __future__ import annotations

import hashlib
import shutil
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from harness.data.index import ExampleIndex
from harness.data.packed import (
    INDEX,
    OFFSETS,
    ORDER,
    VERSION,
    WORK,
    PackedIndex,
    Shard,
    record_offsets,
    shard_name,
)
from harness.errors import DataError, UsageError
from harness.runs.files import make_dir, read_json, to_json, write_atomic

_PLAN = "plan.json"
Rows = Sequence[int] | NDArray[Any]


@dataclass(frozen=True)
class PackOptions:
    """What changes the packed files.

    Attributes:
        shard_bytes: about how large a shard is.
        resize: shorter side in pixels that larger pictures are shrunk to; None leaves all as is.
        quality: of a JPEG that was shrunk, 1 to 100.
    """

    shard_bytes: int = 64 << 20
    resize: int | None = None
    quality: int = 95


@dataclass
class Written:
    """A shard that was written, as it is noted until all are there."""

    shard: Shard
    offsets: array[int]
    labels: Counter[int]
    content_bytes: int
    undecodable: list[str] = field(default_factory=list)


def shard_bounds(sizes: Sequence[int], shard_bytes: int) -> list[int]:
    """Positions at which shards begin, and the number of examples as the last; pure.

    A shard takes examples until the next one would make it larger than ``shard_bytes``, and one
    at least.
    """
    bounds, held = [0], 0
    for position, size in enumerate(sizes):
        if position > bounds[-1] and held + size > shard_bytes:
            bounds.append(position)
            held = 0
        held += size
    return [*bounds, len(sizes)]


class Packing:
    """One data set on its way into one folder.

    Args:
        source: the examples.
        rows: rows of ``source`` in canonical order.
        folder: the packed set; made if it is not there.
        access: ``private`` or ``group``, the modes of what is written.

    Raises:
        UsageError: something else was begun in ``folder``, or it holds other files.
        StorageError: it cannot be written.
    """

    def __init__(
        self,
        source: ExampleIndex,
        rows: Rows,
        folder: Path,
        options: PackOptions,
        access: str,
    ) -> None:
        self.source, self.rows, self.folder, self.options = source, rows, folder, options
        self.bounds = shard_bounds([source.sizes[row] for row in rows], options.shard_bytes)
        self._plan = {
            "harness_packing": VERSION,
            "source": str(source.root.resolve()),
            "source_digest": source.digest,
            "examples": len(source),
            "options": asdict(options),
        }
        self.work = folder / WORK
        make_dir(folder, access)
        self._finished = self._open_finished()
        if self._finished is None:
            self._begin(access)

    @property
    def shards(self) -> int:
        """How many there are to be."""
        return len(self.bounds) - 1

    def positions(self, number: int) -> range:
        """The examples of a shard, as positions in the canonical order."""
        return range(self.bounds[number], self.bounds[number + 1])

    def name(self, number: int) -> str:
        """The file of a shard."""
        return shard_name(number, self.shards)

    def todo(self, part: int = 0, parts: int = 1) -> list[int]:
        """The shards of one of ``parts`` that are not there yet."""
        return [n for n in range(part, self.shards, parts) if not self._is_there(n)]

    def check(self, number: int, shard: Shard) -> None:
        """Holds a shard of a set that was finished once against what it was then.

        Raises:
            DataError: it is another one.
        """
        before = self._finished.shards[number] if self._finished is not None else shard
        if before != shard:
            raise DataError(
                f"{self.folder / before.file} was made anew and is not what it was",
                got=f"sha256 {shard.sha256[:16]}...",
                allowed=f"sha256 {before.sha256[:16]}...",
                action="pack into a new folder: this TensorFlow or libjpeg makes other files",
            )

    def note(self, number: int, written: Written) -> None:
        """Takes note of a shard whose file is in its place."""
        if self._finished is not None:
            return
        write_atomic(self.work / f"{number:05d}.offsets", written.offsets.tobytes())
        facts = {
            "shard": written.shard.to_json(),
            "labels": dict(written.labels),
            "content_bytes": written.content_bytes,
            "undecodable": written.undecodable,
        }
        write_atomic(self.work / f"{number:05d}.json", to_json(facts))

    def finish(self) -> PackedIndex | None:
        """Writes the index when all shards are there; None when some are not.

        Several processes may do so at once: all write the same.
        """
        if self.todo():
            return None
        if self._finished is None:
            noted = [read_json(self.work / f"{number:05d}.json") for number in range(self.shards)]
            offsets = b"".join(
                (self.work / f"{number:05d}.offsets").read_bytes() for number in range(self.shards)
            )
            write_atomic(self.folder / OFFSETS, offsets)
            index = self._index(noted)
            write_atomic(self.folder / INDEX, to_json(index))
            self._finished = PackedIndex(self.folder, index)
        elif _size(self.folder / OFFSETS) != 8 * len(self.source):
            all_of = (record_offsets(self.folder / self.name(n)) for n in range(self.shards))
            write_atomic(self.folder / OFFSETS, b"".join(one.tobytes() for one in all_of))
        shutil.rmtree(self.work, ignore_errors=True)  # another process may be at it as well
        return self._finished

    def _index(self, noted: list[dict[str, Any]]) -> dict[str, Any]:
        shards = [one["shard"] for one in noted]
        labels: Counter[int] = Counter()
        for one in noted:
            labels.update({int(label): count for label, count in one["labels"].items()})
        digest = hashlib.sha256(b"harness packed 1\n")
        for line in _digested(self.source.classes, shards):
            digest.update(line.encode())
        return {
            "harness_packed": VERSION,
            "order": ORDER,
            "examples": len(self.source),
            "classes": list(self.source.classes),
            "counts": [labels[label] for label in range(len(self.source.classes))],
            "digest": f"packed:{digest.hexdigest()}",
            "source": self._plan["source"],
            "source_digest": self.source.digest,
            "options": self._plan["options"],
            "content_bytes": sum(one["content_bytes"] for one in noted),
            "undecodable": sorted(name for one in noted for name in one["undecodable"]),
            "shards": shards,
        }

    def _begin(self, access: str) -> None:
        """Lays down what is packed here, or holds it against what was laid down before."""
        plan = self.work / _PLAN
        if not plan.is_file():
            others = [path.name for path in self.folder.iterdir() if path.name != WORK]
            if others:
                raise UsageError(
                    f"{self.folder} holds other files",
                    got=", ".join(sorted(others)[:5]),
                    allowed="an empty folder, a new one, or one that a pack was begun in",
                    action="name another folder",
                )
            make_dir(self.work, access)
            write_atomic(plan, to_json(self._plan))
        self._check_same(read_json(plan), plan)

    def _open_finished(self) -> PackedIndex | None:
        path = self.folder / INDEX
        if not path.is_file():
            return None
        data = read_json(path)
        self._check_same({name: data[name] for name in self._plan if name in data}, path)
        return PackedIndex(self.folder, data)

    def _check_same(self, before: dict[str, Any], path: Path) -> None:
        other = [name for name, value in before.items() if self._plan.get(name, value) != value]
        # The same files by another way: their digest is what counts.
        other = [name for name in other if name != "source"]
        if other:
            raise UsageError(
                f"{self.folder} is another pack",
                got="; ".join(f"{name} {self._plan[name]!r}" for name in other),
                allowed="; ".join(f"{name} {before[name]!r}" for name in other) + f" ({path.name})",
                action="name another folder, or delete this one if it is of no use",
            )

    def _is_there(self, number: int) -> bool:
        if self._finished is not None:
            wanted: int | None = self._finished.shards[number].bytes
        else:
            noted = self.work / f"{number:05d}.json"
            wanted = int(read_json(noted)["shard"]["bytes"]) if noted.is_file() else None
        return wanted is not None and _size(self.folder / self.name(number)) == wanted


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _digested(classes: Sequence[str], shards: Sequence[dict[str, Any]]) -> Iterator[str]:
    # Neither a class nor a checksum holds a NUL.
    yield "".join(f"{name}\0" for name in classes) + "\n"
    for shard in shards:
        yield f"{shard['examples']}\0{shard['bytes']}\0{shard['sha256']}\n"
