"""The fetched backbones in the cache: which there are, who uses them, and removing them.

Free of TensorFlow.  Beside each is a file ``NAME.used``: when a run has last looked for it, and a
line for each run that has.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import StorageError
from harness.model.fetch import DESCRIPTOR
from harness.model.keras_weights import handle_of
from harness.model.remote import KERAS, MODULES, size_of
from harness.runs.files import append_line, file_mode, write_atomic
from harness.runs.paths import RunPaths

USED = ".used"
IN_USE_S = 3600.0
"""As long as a backbone counts as in use once somebody has looked for it."""
RUN_S = 90 * 24 * 3600.0
"""As long as a run that has not come to its end may still be waiting for its next start."""
_NAME_LETTERS = 40  # of a SHA-1
_MOST_RUNS = 1000
_GONE = ".gone"


@dataclass(frozen=True)
class KeptBackbone:
    """A backbone in the cache.

    Attributes:
        handle: what a spec names; None where nothing says it.
        used_s: seconds since somebody has last looked for it.
        runs: that use it and have not come to their end.
    """

    handle: str | None
    path: Path
    bytes: int
    used_s: float
    runs: tuple[Path, ...]

    @property
    def in_use(self) -> bool:
        """Whether a run needs it, or may be loading it."""
        return bool(self.runs) or self.used_s < IN_USE_S


def note_use(path: Path, run: Path | None = None) -> None:
    """Notes that a backbone is in use, by the run in ``run``.

    Where it cannot be noted (a colleague's cache that we may only read) nothing is raised: we could
    not remove it either, and whoever can is told by its owner's own runs.
    """
    used = path.with_name(path.name + USED)
    with contextlib.suppress(OSError, StorageError):
        known = _noted(used)
        if len(known) > _MOST_RUNS:
            text = "".join(f"{line}\n" for line in known if _may_go_on(RunPaths(line)))
            write_atomic(used, text, sync=False)
        if run is not None and run not in known:
            # At the end, and what is there stays: many runs may note themselves at once.
            append_line(used, str(run))
        else:
            _touch(used)


def _touch(used: Path) -> None:
    """Makes it if need be, and never empties it: somebody may be adding a line."""
    try:
        os.utime(used)
    except FileNotFoundError:
        descriptor = os.open(used, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, file_mode(used.parent))
        finally:
            os.close(descriptor)


def backbones(root: Path) -> list[KeptBackbone]:
    """The fetched backbones below a cache root, the one longest unused first.

    What vanishes or cannot be looked at meanwhile is left out: others use the cache too.
    """
    found = []
    for handle, path in [*_modules(root / MODULES), *_weights(root / KERAS / "models")]:
        with contextlib.suppress(OSError):
            used = path.with_name(path.name + USED)
            found.append(
                KeptBackbone(handle, path, size_of(path), _seconds_unused(path), _live(used))
            )
    return sorted(found, key=lambda one: -one.used_s)


def remove(kept: KeptBackbone) -> bool:
    """Removes a backbone; false where it may not be, not all of it, or where it came into use.

    It is moved aside first, so that nobody finds half of it.
    """
    path = kept.path
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_GONE}")
    try:
        if _seconds_unused(path) < IN_USE_S or _live(path.with_name(path.name + USED)):
            return False
        if not os.access(path, os.W_OK) or path.stat().st_uid != os.geteuid():
            return False  # of a folder of somebody else only the name could be taken away
        path.rename(aside)
    except OSError:
        return False
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)
    for ending in (USED, DESCRIPTOR):
        with contextlib.suppress(OSError):
            path.with_name(path.name + ending).unlink()
    return not aside.exists()


def sweep(root: Path) -> None:
    """Removes what a removal that was killed has left aside."""
    for folder in (root / MODULES, root / KERAS / "models"):
        for path in _inside(folder):
            if path.name.startswith(".") and path.name.endswith(_GONE):
                shutil.rmtree(path, ignore_errors=True)


def _modules(folder: Path) -> Iterator[tuple[str | None, Path]]:
    for path in _inside(folder):
        if len(path.name) == _NAME_LETTERS and path.is_dir():
            yield _described(path), path


def _weights(folder: Path) -> Iterator[tuple[str | None, Path]]:
    for path in _inside(folder):
        handle = handle_of(path.name)
        if handle is not None and path.is_file():
            yield handle, path


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _described(path: Path) -> str | None:
    """The handle of a module, as the file beside it says."""
    try:
        text = path.with_name(path.name + DESCRIPTOR).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    first = text.partition("\n")[0]
    return first.removeprefix("Module: ") if first.startswith("Module: ") else None


def _seconds_unused(path: Path) -> float:
    used = path.with_name(path.name + USED)
    last = (used if used.exists() else path).stat().st_mtime
    return max(0.0, time.time() - last)


def _noted(used: Path) -> list[Path]:
    try:
        return [Path(line) for line in used.read_text(encoding="utf-8").splitlines() if line]
    except FileNotFoundError:
        return []


def _live(used: Path) -> tuple[Path, ...]:
    return tuple(run for run in _noted(used) if _may_go_on(RunPaths(run)))


def _may_go_on(paths: RunPaths) -> bool:
    """Whether a run waits, trains, or was stopped in the midst; a doubt counts for it."""
    try:
        if any(_changed(mark) for mark in (paths.finished, paths.failed, paths.cancelled)):
            return False
        newest = max(map(_changed, (paths.record, paths.heartbeat, paths.attempts)))
    except OSError:
        return True  # a colleague's, into which we cannot look
    return time.time() - newest < RUN_S


def _changed(path: Path) -> float:
    """When a file was changed; 0 of none."""
    try:
        return path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return 0.0
