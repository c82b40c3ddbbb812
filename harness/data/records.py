"""Examples in TFRecord files that were written by others, as an index.  Free of TensorFlow.

An example is called by its file and its number in it, ``train-00000-of-00010#00000042``.  What is
kept of it are some numbers: where it stands, its size, its label.  Its content is read when it is
needed, by itself, so the order is that of any other index.
"""

from __future__ import annotations

import hashlib
import os
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import overload

from harness.data.frames import FRAME, HEAD, is_whole
from harness.data.index import ExampleIndex
from harness.data.record_files import RecordOptions
from harness.data.wire import BYTES, Held, NoExample, as_wav, features, first_bytes, numbers

_OPEN = 256
"""Most files that are kept open; a process may often have no more than 1,024."""


class Unreadable(Exception):
    """A record is not what was written, or holds no example; says why."""


class Table:
    """Where the records of some files stand.

    Args:
        root: folder of the files.
        files: their names.
        counts: examples of each.
        numbers, starts, sizes: of each example its number in its file, the byte at which its
            record begins, and the bytes of the record without what is around it.
        faults: why a record cannot be read, by example, where that was seen.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        counts: Sequence[int],
        numbers: array[int],
        starts: array[int],
        sizes: array[int],
        faults: dict[int, str],
        options: RecordOptions,
    ) -> None:
        self.root, self.files = root, tuple(files)
        self._firsts = [0, *accumulate(counts)]
        self.numbers, self._starts, self.sizes = numbers, starts, sizes
        self._faults, self._options = faults, options
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._starts)

    def __del__(self) -> None:
        for file in getattr(self, "_open", {}).values():
            os.close(file)

    def name(self, row: int) -> str:
        """What an example is called."""
        file = bisect_right(self._firsts, row) - 1
        return f"{self.files[file]}#{self.numbers[row]:08d}"

    def content(self, row: int) -> bytes:
        """The bytes that a file of the example would hold; from any thread.

        Raises:
            Unreadable: there are none.
        """
        if row in self._faults:
            raise Unreadable(self._faults[row])
        raw = self._read(self.files[bisect_right(self._firsts, row) - 1], row)
        if not is_whole(raw):
            raise Unreadable("its record has a wrong checksum")
        return content_in(raw, self._options)

    def _read(self, name: str, row: int) -> bytes:
        size = self.sizes[row] + FRAME
        path = self.root / name
        try:
            file, keep = self._file(name, path)
            try:
                raw = os.pread(file, size, self._starts[row])
            finally:
                if not keep:
                    os.close(file)
        except FileNotFoundError:
            raise Unreadable(f"{name} is missing") from None
        except OSError as error:
            raise Unreadable(f"{name} cannot be read: {error.strerror}") from None
        if len(raw) != size:
            raise Unreadable("its file ends before it")
        return raw

    def _file(self, name: str, path: Path) -> tuple[int, bool]:
        """An open file, and whether it stays open."""
        with self._lock:
            if name in self._open:
                return self._open[name], True
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if len(self._open) < _OPEN:
                self._open[name] = file
                return file, True
        return file, False


def content_in(raw: bytes, options: RecordOptions) -> bytes:
    """The content of the example in a record, with what is around it, as that of a file.

    Raises:
        Unreadable: there is none.
    """
    held = Held(raw)
    try:
        feature = features(held, HEAD, len(raw) - FRAME + HEAD).get(options.example or "")
        if feature is None:
            raise Unreadable(f"its record has no feature {options.example!r}")
        if feature.kind == BYTES:
            return first_bytes(held, feature) or b""
        if options.rate_hz is None:
            raise Unreadable(f"its feature {options.example!r} holds numbers, not bytes")
        return as_wav(numbers(held, feature), options.rate_hz)
    except NoExample:
        raise Unreadable("its record is no tf.Example") from None


class Names(Sequence[str]):
    """Names of examples, made when they are asked for."""

    def __init__(self, table: Table, rows: Sequence[int]) -> None:
        self._table, self._rows = table, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        if isinstance(at, slice):
            return [self._table.name(row) for row in self._rows[at]]
        return self._table.name(self._rows[at])

    def __iter__(self) -> Iterator[str]:
        return map(self._table.name, self._rows)


@dataclass(frozen=True)
class RecordIndex(ExampleIndex):
    """Examples of TFRecord files; ``names`` are in their order, by file and number.

    ``weight_fill`` is what stands for a missing weight; None where there are no weights, or a
    missing one is not imputed.
    """

    table: Table = field(kw_only=True)
    weight_fill: float | None = field(default=None, kw_only=True)

    def subset(self, rows: Sequence[int], notes: tuple[str, ...] = ()) -> RecordIndex:
        """See :meth:`ExampleIndex.subset`."""
        whole = array("q", (self.rows[row] for row in rows) if self.rows else rows)
        held = hashlib.sha256(f"{self.digest}\0{len(self)}\0".encode())
        held.update(array("q", rows).tobytes())
        return replace(
            self,
            names=Names(self.table, whole),
            labels=array("l", (self.labels[row] for row in rows)),
            sizes=array("q", (self.sizes[row] for row in rows)),
            notes=notes,
            whole=self.whole or len(self),
            rows=whole,
            weights=array("d", (self.weights[row] for row in rows) if self.weights else ()),
            groups=[self.groups[row] for row in rows] if self.groups else (),
            targets=[self.targets[row] for row in rows] if self.targets else (),
            states=[self.states[row] for row in rows] if self.states else (),
            values=self.values.subset(rows) if self.values is not None else None,
            digest=f"records-part:{held.hexdigest()}",
        )

    def content(self, row: int) -> bytes:
        """The bytes that a file of example ``row`` of this index would hold.

        Raises:
            Unreadable: there are none.
        """
        return self.table.content(self.rows[row] if self.rows else row)
