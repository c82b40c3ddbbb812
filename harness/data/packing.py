"""Packs a data set: which examples go into which shard, and how far that has come.

A set is packed by any number of processes in any number of starts.  Each shard is written to a
temporary file, synced and renamed, and only then noted; who finds all shards noted writes the
index.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.index import ExampleIndex
from harness.data.pack_index import index_json
from harness.data.pack_plan import PackOptions, Written, shard_bounds
from harness.data.packed import (
    GROUPS,
    INDEX,
    LABELS,
    OFFSETS,
    PLAN,
    VERSION,
    WORK,
    PackedIndex,
    Shard,
    checked,
    is_index,
    kinds_of,
    shard_name,
)
from harness.data.packed_facts import TARGETS, learned_in, targets_of
from harness.data.packed_verify import record_offsets
from harness.data.split import name_key
from harness.errors import DataError, StorageError, UsageError
from harness.runs.files import (
    GROUP,
    PRIVATE,
    TEMPORARY,
    is_group_folder,
    make_dir,
    read_json,
    to_json,
    write_atomic,
)

Rows = Sequence[int] | NDArray[Any]


class Packing:
    """One data set on its way into one folder.

    Args:
        source: the examples.
        rows: rows of ``source`` in canonical order.
        folder: the packed set; made if it is not there.
        access: ``private`` or ``group``; None leaves a folder that is there as it is, and makes a
            new one private.
        sensitive: no message names an example.

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
        access: str | None,
        *,
        sensitive: bool = False,
    ) -> None:
        self.source, self.rows, self.folder, self.options = source, rows, folder, options
        self._sensitive = sensitive
        self.bounds = shard_bounds([source.sizes[row] for row in rows], options.shard_bytes)
        self._plan = {
            "harness_packing": VERSION,
            "source": str(source.root.resolve()),
            "source_digest": source.digest,
            "examples": len(source),
            # A label in a record is a row of them, and of test data they are those of training.
            "classes": list(source.classes),
            "medium": options.medium,
            "options": options.to_json(),
        }
        learned = learned_in(source)
        kinds = kinds_of(learned, len(source.classes))
        self.kinds = {name: kind for name, kind in kinds.items() if name != GROUPS or source.groups}
        if learned != "class":
            self._plan["targets"] = learned
        self.work = folder / WORK
        if not folder.exists():
            make_dir(folder, access or PRIVATE)
        self._finished = self._open_finished()
        if self._finished is None:
            self._begin()
        if access is not None:
            make_dir(folder, access)

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

    def shown(self, row: int) -> str:
        """What messages call an example of the source."""
        if self._sensitive:
            return "an example, which is not named (data.sensitive),"
        return str(self.source.root / self.source.names[row])

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
        facts = {
            "shard": written.shard.to_json(),
            "labels": dict(written.labels),
            "content_bytes": written.content_bytes,
            "undecodable": written.undecodable,
        }
        try:
            write_atomic(self.work / f"{number:05d}.offsets", written.offsets.tobytes())
            write_atomic(self.work / f"{number:05d}.json", to_json(facts))
        except StorageError:
            if not self._finished_meanwhile():
                raise

    def temporary(self, number: int) -> Path:
        """Where a shard is written before it gets its name; gone with the folder it is in."""
        if not self.work.is_dir():
            make_dir(self.work, GROUP if is_group_folder(self.folder) else PRIVATE)
        return self.work / f"{self.name(number)}.{secrets.token_hex(4)}{TEMPORARY}"

    def is_done(self, number: int) -> bool:
        """Whether another process has finished the set, with this shard in it."""
        return self._finished_meanwhile() and self._is_there(number)

    def shard(self, number: int) -> Shard:
        """A shard of a set that is finished."""
        assert self._finished is not None, "asked for only then"
        return self._finished.shards[number]

    def _finished_meanwhile(self) -> bool:
        # Whoever finishes writes the index before it removes anything.
        if self._finished is None:
            self._finished = self._open_finished()
        return self._finished is not None

    def finish(self) -> PackedIndex | None:
        """Writes the index when all shards are there; None when some are not.

        Several processes may do so at once: all write the same.
        """
        if self.todo() and not (self._finished_meanwhile() and not self.todo()):
            return None
        if self._finished is None:
            try:
                self._finished = self._write_index()
            except FileNotFoundError:
                if not self._finished_meanwhile():
                    raise
        for name in self.kinds:
            size = np.dtype(self.kinds[name]).itemsize * len(self.source)
            if _size(self.folder / name) != size:
                write_atomic(self.folder / name, self._entries(name))
        shutil.rmtree(self.work, ignore_errors=True)  # another process may be at it as well
        return self._finished

    def _write_index(self) -> PackedIndex:
        noted = [read_json(self.work / f"{number:05d}.json") for number in range(self.shards)]
        offsets = b"".join(
            (self.work / f"{number:05d}.offsets").read_bytes() for number in range(self.shards)
        )
        sums = {}
        for name in self.kinds:
            content = offsets if name == OFFSETS else self._entries(name)
            write_atomic(self.folder / name, content)
            sums[name] = hashlib.sha256(content).hexdigest()
        index = index_json(self._plan, self.source, noted, sums)
        write_atomic(self.folder / INDEX, to_json(index))
        return PackedIndex(self.folder, index)

    def _entries(self, name: str) -> bytes:
        """The content of a file with an entry for each example."""
        if name == OFFSETS:
            found = [record_offsets(self.folder / self.name(n)) for n in range(self.shards)]
            return b"".join(one.tobytes() for one in found)
        source, kind = self.source, np.dtype(self.kinds[name])
        if name == TARGETS:
            return targets_of(source, self.rows).tobytes()
        if name == LABELS:
            each: Iterator[int] = (source.labels[row] for row in self.rows)
        elif name == GROUPS:
            each = (name_key(source.groups[row]) for row in self.rows)
        else:
            each = (name_key(source.names[row]) for row in self.rows)
        return np.fromiter(each, kind, len(source)).tobytes()

    def _begin(self) -> None:
        """Lays down what is packed here, or holds it against what was laid down before."""
        plan = self.work / PLAN
        if not plan.is_file():
            # A process that was started in the same moment may have begun since.
            others = [path.name for path in self.folder.iterdir() if path.name != WORK]
            if others and not plan.is_file() and not self._finished_meanwhile():
                raise UsageError(
                    f"{self.folder} holds other files",
                    got=", ".join(sorted(others)[:5]),
                    allowed="an empty folder, a new one, or one that a pack was begun in",
                    action="name another folder",
                )
            if not others:
                make_dir(self.work, GROUP if is_group_folder(self.folder) else PRIVATE)
                write_atomic(plan, to_json(self._plan))
        try:
            self._check_same(read_json(plan), plan)
        except FileNotFoundError:
            if not self._finished_meanwhile():
                raise

    def _open_finished(self) -> PackedIndex | None:
        path = self.folder / INDEX
        try:
            data = read_json(path)
        except FileNotFoundError:
            return None
        if not is_index(data):
            return None  # a file of somebody else's
        index = checked(self.folder, data)
        self._check_same({name: data[name] for name in self._plan if name in data}, path)
        return index

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
            wanted = self._finished.shards[number].bytes
        else:
            try:
                wanted = int(read_json(self.work / f"{number:05d}.json")["shard"]["bytes"])
            except FileNotFoundError:
                return False
        return _size(self.folder / self.name(number)) == wanted


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
