"""What was seen of TFRecord files, kept in the cache so that no other start looks again.

An entry is a folder ``records/KEY`` of the cache root; the key is over the files' names, sizes and
times, and over what is read of a record.

    entry.json    which files these are
    seen.bin      a SHA-256, and what it is of: an .npz with the numbers of their examples and a
                  JSON text with the rest
    used          its modification time tells when it was last read

It appears whole or not at all: it is written beside and renamed.  Free of TensorFlow.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.record_files import RecordOptions
from harness.data.record_seen import Scanned
from harness.errors import StorageError
from harness.runs.files import GROUP, PRIVATE, is_group_folder, make_dir, to_json, write_atomic

RECORDS, SEEN, ENTRY, USED = "records", "seen.bin", "entry.json", "used"
WORTH = 5000
"""Examples from which on looking again takes longer than a file is worth."""
_FORMAT = 2
_MAKING, _LEFT_S = ".making-", 24 * 3600.0
_DIGEST = hashlib.sha256().digest_size
_TYPES = {"starts": "q", "sizes": "q", "numbers": "q", "labels": "l", "weights": "d", "values": "d"}
"""The arrays that are kept of each file, which may have weights and values or not."""

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

    The cache is the folder ``HARNESS_CACHE``; without it, or where it cannot be used, files are
    scanned.

    Args:
        labels: whether ``scan`` looks into the records.
    """
    folder = os.environ.get("HARNESS_CACHE")
    try:
        facts = list(pool.map(lambda name: _facts(root / name), files)) if folder else None
    except OSError:
        facts = None  # the scan says what is wrong
    if not folder or facts is None:
        return list(pool.map(scan, files))
    entry = Path(folder) / RECORDS / _key(root, files, facts, options, labels)
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
    try:
        access = GROUP if is_group_folder(entry.parent.parent) else PRIVATE
        make_dir(entry.parent, access)
        _sweep(entry.parent)
        making = Path(tempfile.mkdtemp(dir=entry.parent, prefix=_MAKING))
    except (OSError, StorageError):
        return
    try:
        make_dir(making, access)
        held = io.BytesIO()
        np.savez(held, **_arrays(found), rest=_rest(found))
        raw = held.getvalue()
        write_atomic(making / SEEN, hashlib.sha256(raw).digest() + raw)
        what = {"data": str(root), "files": len(found), "examples": sum(map(len, found))}
        write_atomic(making / ENTRY, to_json(what))
        write_atomic(making / USED, "")
        making.rename(entry)  # fails where another one was faster
    except (OSError, StorageError):
        shutil.rmtree(making, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what writers have left that were killed."""
    for path in folder.glob(f"{_MAKING}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT_S:
                shutil.rmtree(path, ignore_errors=True)


def _arrays(found: Sequence[Scanned]) -> dict[str, Any]:
    return {
        name: np.concatenate([np.asarray(getattr(one, name)) for one in found]) for name in _TYPES
    }


def _rest(found: Sequence[Scanned]) -> np.ndarray:
    """A JSON text as bytes: an array of objects would be read by running a pickle."""
    rest = [
        {
            "file": one.file,
            "facts": [one.bytes, one.mtime_ns],
            "lengths": {name: len(getattr(one, name)) for name in _TYPES},
            "groups": one.groups,
            "labels": [one.labels_there, one.label_names],
            "faults": list(one.faults.items()),
            "missing": dict(one.missing),
            "broken": one.broken,
            "lost": one.lost,
            "there": one.there,
            "records": one.records,
        }
        for one in found
    ]
    return np.frombuffer(json.dumps(rest).encode(), np.uint8)


def _read(entry: Path, files: Sequence[str]) -> list[Scanned] | None:
    """What an entry holds; None where there is none, or it is damaged and was removed."""
    try:
        was_there = entry.is_dir()
        whole = (entry / SEEN).read_bytes()
    except FileNotFoundError:
        if was_there:  # and is not what somebody has put there just now
            shutil.rmtree(entry, ignore_errors=True)  # or it would be in the way
        return None
    except OSError:
        return None
    with contextlib.suppress(OSError):  # of somebody else's entry
        os.utime(entry / USED)
    digest, raw = whole[:_DIGEST], memoryview(whole)[_DIGEST:]
    if hashlib.sha256(raw).digest() != digest:
        shutil.rmtree(entry, ignore_errors=True)
        return None
    with np.load(io.BytesIO(raw), allow_pickle=False) as held:
        arrays = {name: held[name] for name in _TYPES}
        rest = json.loads(held["rest"].tobytes())
    found, starts = [], Counter[str]()
    for each in rest:
        one = _scanned(each)
        for name, length in each["lengths"].items():
            part = arrays[name][starts[name] : starts[name] + length]
            getattr(one, name).frombytes(part.astype(_TYPES[name]).tobytes())
            starts[name] += length
        found.append(one)
    return found if [one.file for one in found] == list(files) else None


def _scanned(each: dict[str, Any]) -> Scanned:
    one = Scanned(each["file"], *each["facts"])
    one.groups = each["groups"]
    one.labels_there, one.label_names = each["labels"]
    one.faults = dict(map(tuple, each["faults"]))
    one.missing = Counter(each["missing"])
    one.broken, one.lost = each["broken"], each["lost"]
    one.there, one.records = each["there"], each["records"]
    return one
