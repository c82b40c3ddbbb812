"""What was seen of TFRecord files, kept in the cache so that no other start looks again.

An entry is a folder ``records/KEY`` of the cache root; the key is over the files' names, sizes and
times, and over what is read of a record.

    entry.json    which files these are
    seen.bin      a SHA-256, and what it is of: for each file the length of a JSON text (64-bit),
                  that text, and the numbers of its examples
    used          its modification time tells when it was last read

It appears whole or not at all: it is written beside and renamed.  Neither writing nor reading holds
more of it at a time than what one file takes.  Free of TensorFlow.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, BinaryIO

from harness.data.cache_room import cache_there, room_for
from harness.data.record_files import RecordOptions
from harness.data.record_seen import RECORDS, Scanned
from harness.errors import StorageError
from harness.runs.files import (
    GROUP,
    PRIVATE,
    file_mode,
    is_group_folder,
    make_dir,
    to_json,
    write_atomic,
)

SEEN, ENTRY, USED = "seen.bin", "entry.json", "used"
WORTH = 5000
"""Examples from which on looking again takes longer than a file is worth."""
_FORMAT = 3
_MAKING, _LEFT_S = ".making-", 24 * 3600.0
_DIGEST = hashlib.sha256().digest_size
_ARRAYS = ("starts", "sizes", "numbers", "labels", "weights", "values")
_LENGTH = struct.Struct("<Q")
_PIECE = 1 << 20
_SMALL = 4096
"""Room for what is beside ``seen.bin``."""

Scan = Callable[[str], Scanned]


def kept_or_scanned(
    root: Path,
    files: Sequence[str],
    options: RecordOptions,
    scan: Scan,
    pool: Executor,
    *,
    labels: bool = True,
) -> list[Scanned]:
    """What ``scan`` finds in each file, from the cache where it was found before.

    The cache is that of this user (:func:`harness.data.cache_room.cache_there`), and is held to its
    limit; without it, or where it cannot be used, files are scanned.

    Args:
        labels: whether ``scan`` looks into the records.
    """
    folder = cache_there(os.environ)
    try:
        facts = list(pool.map(lambda name: _facts(root / name), files)) if folder else None
    except OSError:
        facts = None  # the scan says what is wrong
    if folder is None or facts is None:
        return list(pool.map(scan, files))
    entry = folder / RECORDS / _key(root, files, facts, options, labels)
    found = _read(entry, files)
    if found is None:
        found = list(pool.map(scan, files))
        # None that changed meanwhile, and none that is refused for what is in it.
        same = [(one.bytes, one.mtime_ns) for one in found] == facts
        if same and not any(one.problems for one in found) and sum(map(len, found)) >= WORTH:
            _keep(entry, root, found)
    return found


def _facts(path: Path) -> tuple[int, int]:
    there = path.stat()
    return there.st_size, there.st_mtime_ns


def _key(
    root: Path,
    files: Sequence[str],
    facts: Sequence[tuple[int, int]],
    options: RecordOptions,
    labels: bool,
) -> str:
    """SHA-256 over everything that decides what is seen."""
    read = {
        "format": _FORMAT,
        "root": os.path.realpath(root),
        "labels": labels,
        "features": [options.example, options.label, options.weight, options.group],
        "names": options.names,
        "unlabelled": options.unlabelled,
        "missing": [options.missing_label, options.missing_file, options.missing_field],
        "medium": options.medium.name,
        "numbers": options.rate_hz is not None,
        "learned": [options.learned, options.labels, options.multi_hot, options.uncertain],
    }
    digest = hashlib.sha256(to_json(read).encode())
    for name, (size, mtime_ns) in zip(files, facts, strict=True):
        digest.update(f"{name}\0{size}\0{mtime_ns}\n".encode())
    return digest.hexdigest()


def _keep(entry: Path, root: Path, found: Sequence[Scanned]) -> None:
    """Writes an entry; where that fails it is not there, and the next start scans again."""
    cache = entry.parent.parent
    try:
        need = sum(len(piece) for one in found for piece in _pieces(one))
        if room_for(cache, need + _SMALL, os.environ) is not None:
            return
        access = GROUP if is_group_folder(cache) else PRIVATE
        make_dir(entry.parent, access)
        _sweep(entry.parent)
        making = Path(tempfile.mkdtemp(dir=entry.parent, prefix=_MAKING))
    except (OSError, StorageError):
        return
    try:
        make_dir(making, access)
        _write(making / SEEN, found, file_mode(making))
        what = {"data": str(root), "files": len(found), "examples": sum(map(len, found))}
        write_atomic(making / ENTRY, to_json(what))
        write_atomic(making / USED, "")
        making.rename(entry)  # fails where another one was faster
    except (OSError, StorageError):
        shutil.rmtree(making, ignore_errors=True)


def _write(path: Path, found: Sequence[Scanned], mode: int) -> None:
    """Piece by piece: what was seen of a hundred million examples is gigabytes."""
    digest = hashlib.sha256()
    with path.open("xb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(bytes(_DIGEST))
        for one in found:
            for piece in _pieces(one):
                digest.update(piece)
                file.write(piece)
        file.seek(0)
        file.write(digest.digest())
        file.flush()
        os.fsync(file.fileno())


def _pieces(one: Scanned) -> Iterator[bytes | memoryview]:
    """What is written of a file, in bytes."""
    rest = json.dumps(_rest(one)).encode()
    yield _LENGTH.pack(len(rest))
    yield rest
    for name in _ARRAYS:
        held = getattr(one, name)
        if held:  # there is no view of nothing
            yield memoryview(held).cast("B")


def _sweep(folder: Path) -> None:
    """Removes what writers have left that were killed."""
    for path in folder.glob(f"{_MAKING}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT_S:
                shutil.rmtree(path, ignore_errors=True)


def _rest(one: Scanned) -> dict[str, Any]:
    """What there is beside the numbers."""
    return {
        "file": one.file,
        "facts": [one.bytes, one.mtime_ns],
        "lengths": {name: len(getattr(one, name)) for name in _ARRAYS},
        "groups": one.groups,
        "labels": [one.labels_there, one.label_names],
        "faults": list(one.faults.items()),
        "missing": dict(one.missing),
        "broken": one.broken,
        "lost": one.lost,
        "there": one.there,
        "records": one.records,
    }


def _read(entry: Path, files: Sequence[str]) -> list[Scanned] | None:
    """What an entry holds; None where there is none, or it is damaged and was removed."""
    was_there = entry.is_dir()
    try:
        with (entry / SEEN).open("rb") as file:
            with contextlib.suppress(OSError):  # of somebody else's entry
                os.utime(entry / USED)
            if not _is_whole(file):
                shutil.rmtree(entry, ignore_errors=True)
                return None
            found = list(_seen_in(file))
    except FileNotFoundError:
        if was_there:  # and is not what somebody has put there just now
            shutil.rmtree(entry, ignore_errors=True)  # or it would be in the way
        return None
    except OSError:
        return None
    return found if [one.file for one in found] == list(files) else None


def _is_whole(file: BinaryIO) -> bool:
    """Whether the checksum is that of the rest; leaves the file behind the checksum."""
    wanted, digest = file.read(_DIGEST), hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    file.seek(_DIGEST)
    return digest.digest() == wanted


def _seen_in(file: BinaryIO) -> Iterator[Scanned]:
    while head := file.read(_LENGTH.size):
        each = json.loads(file.read(*_LENGTH.unpack(head)))
        one = _scanned(each)
        for name, length in each["lengths"].items():
            getattr(one, name).fromfile(file, length)
        yield one


def _scanned(each: dict[str, Any]) -> Scanned:
    one = Scanned(each["file"], *each["facts"])
    one.groups = each["groups"]
    one.labels_there, one.label_names = each["labels"]
    one.faults = dict(map(tuple, each["faults"]))
    one.missing = Counter(each["missing"])
    one.broken, one.lost = each["broken"], each["lost"]
    one.there, one.records = each["there"], each["records"]
    return one
