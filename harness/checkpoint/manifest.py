"""What a checkpoint on disk is, and how one is told from a damaged one.  Needs no TensorFlow.

A checkpoint is a directory ``step-00001200`` that holds

* ``tensors.index`` and ``tensors.data-00000-of-00001``: a TensorFlow tensor bundle (absent when
  there are no tensors),
* ``state.json``: host state (see :mod:`harness.checkpoint.hoststate`),
* ``manifest.json``: written last; size and SHA-256 of every other file, the step, the time, the
  metrics, the name, shape and dtype of every tensor, and the SHA-256 of its own body.

A directory whose manifest and files verify was committed whole; anything else was not, or has
been damaged since.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness.checkpoint.hoststate import Json, decode_state
from harness.errors import StorageError
from harness.runs.files import sha256_file
from harness.runs.patience import patiently

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
BUNDLE = "tensors"

_FINAL = re.compile(r"step-(\d{8,})")
# A checkpoint moved aside while its successor of the same step takes its place.
_REPLACED = re.compile(r"\.replaced-step-(\d{8,})-[0-9a-f]+")


class DamagedCheckpoint(StorageError):
    """A checkpoint is missing, was not written whole, or changed after it was written."""

    @property
    def reason(self) -> str:
        """What is wrong with it, in a few words."""
        return self.problems[0].got or self.problems[0].what


@dataclass(frozen=True)
class TensorInfo:
    """Shape and numpy dtype name of one tensor."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``.

    ``time`` is UTC, as :func:`harness.runs.clock.utc_now` writes it.  ``files`` maps a file name
    to ``(size in bytes, SHA-256)``.  ``metrics`` may hold values that are not finite.
    """

    step: int
    time: str
    files: Mapping[str, tuple[int, str]]
    tensors: Mapping[str, TensorInfo]
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of the checkpoint's files, without the manifest."""
        return sum(size for size, _ in self.files.values())


@dataclass(frozen=True)
class CheckpointInfo:
    """One checkpoint as its directory and manifest tell it; its files are not read.

    ``problem`` says why the manifest cannot be used, else it is None.
    """

    step: int
    path: Path
    manifest: Manifest | None
    problem: str | None = None


def directory_name(step: int) -> str:
    """Name of the directory of a step: ``step-00001200``."""
    return f"step-{step:08d}"


def render_manifest(manifest: Manifest) -> bytes:
    """The exact bytes of ``manifest.json``; strict JSON, one form for one content."""
    body: dict[str, Any] = {
        "format": FORMAT,
        "step": manifest.step,
        "time": manifest.time,
        "files": {name: {"size": s, "sha256": h} for name, (s, h) in manifest.files.items()},
        "tensors": {
            name: {"shape": list(info.shape), "dtype": info.dtype}
            for name, info in manifest.tensors.items()
        },
        "metrics": {name: _write_float(value) for name, value in manifest.metrics.items()},
    }
    body["sha256"] = _body_digest(body)
    return (json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def parse_manifest(data: bytes) -> Manifest:
    """Reads and checks the bytes of a ``manifest.json``.

    The bytes must be exactly those that :func:`render_manifest` gives for what they say, so that
    a changed bit in white space or in the digest itself is seen too.

    Raises:
        ValueError: damaged, or of another format version.
    """
    try:
        body = json.loads(data)
        if not isinstance(body, dict):
            raise TypeError("not a JSON object")
        if body.get("format") != FORMAT and body.get("sha256") == _body_digest(body):
            raise ValueError(
                f"{MANIFEST}: format {body.get('format')!r} is not {FORMAT}; "
                "it was written by another version of harness"
            )
        manifest = Manifest(
            step=body["step"],
            time=body["time"],
            files={name: (f["size"], f["sha256"]) for name, f in body["files"].items()},
            tensors={
                name: TensorInfo(tuple(t["shape"]), t["dtype"])
                for name, t in body["tensors"].items()
            },
            metrics={name: float(value) for name, value in body["metrics"].items()},
        )
        same = render_manifest(manifest) == data
    except (KeyError, TypeError, AttributeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} cannot be read ({type(error).__name__}: {error})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{MANIFEST} is not JSON ({error})") from error
    if not same:
        raise ValueError(f"{MANIFEST} does not match its own checksum")
    return manifest


def read_manifest(path: Path) -> Manifest:
    """The manifest of the checkpoint directory ``path``, checked against itself only.

    Raises:
        DamagedCheckpoint: missing, unreadable, damaged, or of another step than the directory.
    """
    try:
        manifest = parse_manifest(patiently((path / MANIFEST).read_bytes, late=True))
    except OSError as error:
        raise _damaged(path, f"{MANIFEST}: {error.strerror or error}") from error
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    named = step_of(path)
    if named is not None and named != manifest.step:
        raise _damaged(path, f"{MANIFEST} is of step {manifest.step}")
    return manifest


def verify_checkpoint(path: Path) -> Manifest:
    """Reads every file of a checkpoint and compares size and SHA-256 with the manifest.

    Raises:
        DamagedCheckpoint: names the first file that differs.
    """
    manifest = read_manifest(path)
    for reason in _differences(path, manifest):
        raise _damaged(path, reason)
    return manifest


def damages(path: Path) -> list[str]:
    """What is wrong with a checkpoint, a line a file; [] of one that is whole.

    Without a sound manifest nothing can be said of the other files, so that is the only line then.
    """
    try:
        return list(_differences(path, read_manifest(path)))
    except DamagedCheckpoint as error:
        return [error.reason]


def _differences(path: Path, manifest: Manifest) -> Iterator[str]:
    for name, (size, digest) in sorted(manifest.files.items()):
        if Path(name).name != name:
            yield f"the manifest names a file outside the checkpoint ({name!r})"
            continue
        file = path / name
        try:
            found_size = patiently(file.stat, late=True).st_size
            if found_size != size:
                yield f"{name} has {found_size} bytes instead of {size}"
            elif patiently(partial(sha256_file, file)) != digest:
                yield f"{name} differs from its checksum"
        except OSError as error:
            yield f"{name}: {error.strerror or error}"


def read_state(path: Path) -> dict[str, Json]:
    """Host state of a verified checkpoint.

    Raises:
        DamagedCheckpoint: unreadable.
    """
    try:
        return decode_state(patiently((path / STATE).read_bytes))
    except (OSError, ValueError) as error:
        raise _damaged(path, f"{STATE}: {error}") from error


def step_of(path: Path) -> int | None:
    """Step that a directory's name says, or None if it is not a checkpoint's name."""
    match = _FINAL.fullmatch(path.name) or _REPLACED.fullmatch(path.name)
    return int(match.group(1)) if match else None


def checkpoint_paths(folder: Path) -> list[tuple[int, Path]]:
    """Step and directory of what may be a checkpoint, oldest first; [] without the folder.

    One that was moved aside for a newer save of the same step counts as long as that newer one
    did not arrive: a kill between the two renames loses nothing.

    Raises:
        OSError: the folder exists and cannot be read.
    """
    try:
        names = [(step_of(entry), entry) for entry in patiently(lambda: list(folder.iterdir()))]
    except FileNotFoundError:
        return []
    entries = [(step, entry) for step, entry in names if step is not None]
    arrived = {step for step, entry in entries if _FINAL.fullmatch(entry.name)}
    return sorted(
        (step, entry)
        for step, entry in entries
        if _FINAL.fullmatch(entry.name) or step not in arrived
    )


def list_checkpoints(folder: Path) -> list[CheckpointInfo]:
    """Every checkpoint under ``folder``, oldest first, with its manifest or what is wrong.

    Raises:
        OSError: the folder exists and cannot be read.
    """
    found = []
    for step, path in checkpoint_paths(folder):
        try:
            found.append(CheckpointInfo(step, path, read_manifest(path)))
        except DamagedCheckpoint as error:
            found.append(CheckpointInfo(step, path, None, error.reason))
    return found


def _damaged(path: Path, reason: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"{path}: the checkpoint cannot be used",
        got=reason,
        action=f"use another checkpoint of {path.parent}",
    )


def _body_digest(body: Mapping[str, Any]) -> str:
    signed = {key: value for key, value in body.items() if key != "sha256"}
    canonical = json.dumps(signed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _write_float(value: float) -> float | str:
    value = float(value)
    return value if math.isfinite(value) else str(value)  # strict JSON has no NaN
