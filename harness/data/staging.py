"""Copies a packed set to a folder of this node, file by file, verified.  Free of TensorFlow.

    <place>/harness-<uid>/staged/<digest>/     a packed set of its own once index.json is there
    <place>/harness-<uid>/staged/<digest>.copying, .in-use    lock files

A file gets its name once its checksum is right, so whoever finds a name may read it, and a copy
that was broken off goes on with the files that are missing.  One process copies at a time; those
that read hold a lock together, without which nothing is removed.  The kernel ends a lock with its
process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.packed import INDEX, OFFSETS, PackedIndex, checked
from harness.errors import DataError, StorageError
from harness.runs.files import TEMPORARY, fsync_dir, sha256_file, write_atomic
from harness.runs.own import locked, own_folder

KEPT_DAYS = 7
"""A set that nobody has used for so long is removed when the next one is staged."""
_PIECE = 4 << 20
_REMOVED_S = 30
_TRIES = 2
"""A copy whose checksum is wrong is made once more: then it is the set itself that is damaged."""


class Stopped(Exception):
    """Whoever copies was told to stop."""


@dataclass(frozen=True)
class Item:
    """A file of a packed set: its name, bytes, and the SHA-256 of its content."""

    name: str
    bytes: int
    sha256: str


def staged_folder(place: Path) -> Path:
    """Where in a scratch folder this user's staged sets are; makes nothing."""
    return place / f"harness-{os.getuid()}" / "staged"


class StagedSet:
    """One packed set and its copy.

    Args:
        index: the set.
        base: of all staged sets, see :func:`staged_folder`.
    """

    def __init__(self, index: PackedIndex, base: Path) -> None:
        self.index, self.base = index, base
        self.key = index.digest.rpartition(":")[2][:16]
        self.folder = base / self.key
        count = len(index)
        entries = {
            name: Item(name, count * np.dtype(kind).itemsize, index.entry_sums[name])
            for name, kind in index.kinds.items()
        }
        # In the order in which a run has use for them.
        self.items = (
            entries.pop(OFFSETS),
            *(Item(shard.file, shard.bytes, shard.sha256) for shard in index.shards),
            *entries.values(),
        )

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(item.bytes for item in self.items)

    def missing(self) -> list[Item]:
        """The files that are not there, in the order in which they are copied."""
        return [item for item in self.items if _size(self.folder / item.name) != item.bytes]

    def is_whole(self) -> bool:
        """Whether all files are there; the index is written last."""
        return (self.folder / INDEX).is_file() and not self.missing()

    def make(self) -> None:
        """Makes the folders, open to nobody else.

        Raises:
            StorageError: they cannot be made, or are somebody else's.
            OSError: the place cannot be written.
        """
        self.base.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.base.parent, self.base, self.folder):
            own_folder(folder)

    def sweep(self) -> None:
        """Removes what a process left that was killed in the midst of a file; holder only."""
        for path in self.folder.glob(f".*{TEMPORARY}"):
            path.unlink(missing_ok=True)

    def drop_damaged(self, item: Item) -> bool:
        """Removes a copy whose checksum is wrong; whether it did."""
        path = self.folder / item.name
        if _size(path) != item.bytes or sha256_file(path) == item.sha256:
            return False
        path.unlink(missing_ok=True)
        return True

    def copy(self, item: Item, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Copies a file; it gets its name once its checksum is right.

        Raises:
            DataError: the file of the set itself is missing, or is not what was packed.
            OSError: the copy cannot be written.
            Stopped: before it was done.
        """
        for _ in range(_TRIES):
            temporary = self.folder / f".{item.name}.{secrets.token_hex(4)}{TEMPORARY}"
            try:
                _copy(self.index.root / item.name, temporary, item.bytes, is_stopped)
                # What counts is what is read back.
                if sha256_file(temporary) == item.sha256:
                    temporary.replace(self.folder / item.name)
                    fsync_dir(self.folder)
                    return
            finally:
                temporary.unlink(missing_ok=True)
        raise DataError(
            f"{self.index.root / item.name} is not what was packed",
            allowed=f"sha256 {item.sha256[:16]}...",
            action="delete it and run the same `harness pack` again",
        )

    def finish(self) -> None:
        """Writes the index, once all else is there.

        Raises:
            DataError: that of the set has changed, or cannot be read.
            StorageError: it cannot be written.
        """
        path = self.index.root / INDEX
        try:
            raw = path.read_bytes()
            same = checked(self.index.root, json.loads(raw)).digest == self.index.digest
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read", got=str(error)) from error
        if not same:
            raise DataError(f"{path} has changed", action="stage the set again")
        write_atomic(self.folder / INDEX, raw)

    @contextmanager
    def copying(self) -> Iterator[bool]:
        """Whether this is the one process that copies, as long as the block lasts."""
        with locked(self.base / f"{self.key}.copying", fcntl.LOCK_EX) as held:
            yield held

    @contextmanager
    def using(self) -> Iterator[None]:
        """Keeps the set from being removed, as long as the block lasts.

        Raises:
            StorageError: another process removes it, and does not come to an end.
        """
        lock = _in_use(self.base, self.key)
        for _ in range(_REMOVED_S * 10):
            with locked(lock, fcntl.LOCK_SH) as held:
                if held:
                    own_folder(self.folder)  # it may just have been removed
                    os.utime(lock)
                    yield
                    return
            time.sleep(0.1)
        raise StorageError(f"{self.folder} is being removed by another process")

    def remove(self) -> bool:
        """Removes all of it unless somebody uses it; whether it did."""
        return _remove(self.base, self.key)


def remove_unused(base: Path, but: str, need_bytes: int = 0) -> list[str]:
    """Removes staged sets that nobody has used for :data:`KEPT_DAYS`.

    Args:
        but: key of the set that stays.
        need_bytes: room to make: younger ones go too, the one longest unused first, until so much
            was removed.

    Returns:
        Their keys.
    """
    found = []
    for folder in base.iterdir():
        if folder.is_dir() and folder.name != but:
            with contextlib.suppress(OSError):
                found.append((_last_used(base, folder), folder))
    removed, freed = [], 0
    old = time.time() - KEPT_DAYS * 86_400
    for used, folder in sorted(found):
        if used > old and freed >= need_bytes:
            break
        size = sum(_size(path) or 0 for path in folder.iterdir())
        if _remove(base, folder.name):
            removed.append(folder.name)
            freed += size
    return removed


def _last_used(base: Path, folder: Path) -> float:
    lock = _in_use(base, folder.name)
    return (lock if lock.exists() else folder).stat().st_mtime


def _remove(base: Path, key: str) -> bool:
    lock = _in_use(base, key)
    with locked(lock, fcntl.LOCK_EX) as held:
        if held:
            # The index first: what is left by a kill in between is no whole set.
            (base / key / INDEX).unlink(missing_ok=True)
            shutil.rmtree(base / key, ignore_errors=True)
            (base / f"{key}.copying").unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
        return held


def _in_use(base: Path, key: str) -> Path:
    return base / f"{key}.in-use"


def _copy(source: Path, target: Path, size: int, is_stopped: Callable[[], bool]) -> None:
    try:
        stream = source.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(source, error) from error
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with stream, os.fdopen(descriptor, "wb", buffering=0) as copy:
        buffer = memoryview(bytearray(min(_PIECE, max(1, size))))
        while True:
            if is_stopped():
                raise Stopped
            try:
                count = stream.readinto(buffer)
            except OSError as error:
                raise _unreadable(source, error) from error
            if not count:
                break
            rest = buffer[:count]
            while rest:
                rest = rest[copy.write(rest) :]
        os.fsync(copy.fileno())


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path} cannot be read",
        got=error.strerror,
        action="run the same `harness pack` again, which makes what is missing",
    )


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
