"""Packing a data set into its shards, as the verb and the job do it."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from harness.data.pack_plan import PackOptions
from harness.data.packed import PackedIndex
from harness.data.packed_verify import verify
from harness.data.packing import Packing
from harness.data.scan import refuse_bad_names
from harness.errors import DataError, UsageError
from harness.worker.environment import import_tensorflow, prepare
from harness.worker.pack_source import PackSource


@dataclass(frozen=True)
class Packed:
    """What came of one start.

    Attributes:
        index: of the whole set; None while other parts are missing.
        written: examples that this start has packed.
        missing: shards that are not there yet.
        undecodable: names of the pictures that could not be shrunk and were packed as they are.
    """

    index: PackedIndex | None
    written: int
    missing: int
    undecodable: tuple[str, ...]


def pack_data(
    source: PackSource,
    folder: Path,
    options: PackOptions,
    *,
    part: int = 0,
    parts: int = 1,
    workers: int | None = None,
    access: str | None = None,
    say: Callable[[str], None],
    progress: TextIO | None = None,
) -> Packed:
    """Packs a data set, or one of ``parts`` of it; what is there already stays.

    Args:
        part: from 0.
        access: see :class:`Packing`.
        workers: shards that are written at a time; None is one for each core.
        say: hears what is worth knowing of the data.

    Raises:
        DataError: the data are not usable, or an example cannot be read.
        UsageError: ``folder`` holds something else.
        StorageError: it cannot be written.
    """
    check_places(source, folder)
    index = source.index()
    for note in () if source.sensitive else index.notes:
        say(note)
    prepare(os.environ, say)
    with tempfile.TemporaryDirectory() as chatter:  # of GPUs, which are of no use here
        import_tensorflow(Path(chatter, "log"))
    from harness.data.order import canonical_rows
    from harness.data.pack import pack
    from harness.distribute.devices import hide_gpus

    # The files are to be the same everywhere, and several of these may share a node.
    hide_gpus()

    rows = canonical_rows(len(index))
    packing = Packing(index, rows, folder, options, access, sensitive=source.sensitive)
    todo = packing.todo(part, parts)
    total = sum(len(packing.positions(number)) for number in todo)
    with Progress(total, progress or sys.stderr) as shown:
        undecodable = pack(packing, part, parts, workers, shown.add)
    whole = packing.finish()
    missing = 0 if whole is not None else len(packing.todo())
    return Packed(whole, total, missing, tuple(undecodable))


def check_sums(index: PackedIndex) -> None:
    """Reads all shards and holds them against their checksums.

    Raises:
        DataError: shards are not what was packed; names all of them.
    """
    problems = list(verify(index))
    if problems:
        raise DataError(problems)


def check_places(source: PackSource, folder: Path) -> None:
    """Looks whether data may be packed into a folder.

    Raises:
        UsageError: it may not.
        DataError: a name is not valid UTF-8.
    """
    refuse_bad_names([str(source.path), str(folder)])
    if source.packed is not None:
        raise UsageError(
            f"{source.packed} is packed already",
            allowed="a folder with one folder for each class, a manifest, or a spec",
            action="name what it was packed from",
        )
    inside = folder.resolve()
    for of in source.folders:
        if inside != of.resolve() and of.resolve() not in inside.parents:
            continue
        raise UsageError(
            f"{folder} lies in the data that are to be packed",
            allowed="a folder outside of them, since each folder in them is a class",
            action="name another folder",
        )


class Progress:
    """A line on a terminal that tells how far it is; elsewhere a line every half minute."""

    def __init__(self, total: int, out: TextIO) -> None:
        self._total, self._out = total, out
        self._terminal = out.isatty()
        self._lock = threading.Lock()
        self._done, self._begun = 0, time.monotonic()
        self._next = 0.0 if self._terminal else 30.0

    def add(self, examples: int) -> None:
        """So many more are done; from any thread."""
        with self._lock:
            self._done += examples
            gone = time.monotonic() - self._begun
            if gone >= self._next:
                self._next = gone + (0.2 if self._terminal else 30.0)
                self._show(gone)

    def _show(self, gone: float) -> None:
        pace = self._done / gone if gone else 0.0
        text = f"packed {self._done:,} of {self._total:,} examples, {pace:,.0f} a second"
        self._out.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        self._out.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._terminal:
            self._out.write("\r\x1b[K")
            self._out.flush()
