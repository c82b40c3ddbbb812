"""The store of a run's checkpoints: saved whole or not at all, restored only when verified.

Commit protocol: a unique temporary directory inside the folder of the checkpoints; every file
written and fsynced, the manifest last; the directory fsynced, renamed to its final name, and the
folder fsynced.  A kill at any point leaves either no new checkpoint or a whole one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoint import bundle, leftovers
from harness.checkpoint.hoststate import encode_state
from harness.checkpoint.manifest import (
    BUNDLE,
    MANIFEST,
    STATE,
    CheckpointInfo,
    DamagedCheckpoint,
    Manifest,
    TensorInfo,
    checkpoint_paths,
    directory_name,
    list_checkpoints,
    read_manifest,
    read_state,
    render_manifest,
    verify_checkpoint,
)
from harness.checkpoint.retention import Periods, steps_to_keep
from harness.checkpoint.snapshot import Restored, Skipped, Snapshot
from harness.errors import StorageError
from harness.runs.clock import parse_time, utc_now
from harness.runs.files import file_mode, fsync_dir, make_dir, sha256_file, write_atomic
from harness.runs.patience import patiently
from harness.runs.storage import storage_error

if TYPE_CHECKING:
    import numpy as np


class Store:
    """Checkpoints in one folder; one process writes.

    Args:
        folder: made at the first save if need be.
        keep: how many of the newest checkpoints stay, at least 1.
        access: ``private`` (0700/0600) or ``group`` (setgid kept, 2770/0660).
        log: told, in a sentence, of everything out of the ordinary.
        periods: which checkpoints stay for good beside these.
        allowed: called before a checkpoint comes to its place, and before others are removed;
            raises where this process must not write any more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        access: str,
        log: Callable[[str], None],
        periods: Periods | None = None,
        allowed: Callable[[], None] = lambda: None,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, was {keep}")
        self.folder = Path(folder)
        self.keep = keep
        self.access = access
        self.periods = periods
        self._log, self._allowed = log, allowed
        self._damaged: set[Path] = set()
        self._times: dict[Path, float] = {}
        self._untimed: set[Path] = set()

    def save(
        self,
        step: int,
        tensors: Mapping[str, np.ndarray],
        state: dict[str, Any],
        *,
        metrics: Mapping[str, float] | None = None,
        keep_steps: Iterable[int] = (),
    ) -> Path:
        """Writes the checkpoint of ``step`` and removes those no longer wanted.

        Kept are the newest ``keep``, those of ``keep_steps``, and one per period.  Checkpoints of
        later steps belong to a course of training that a restore has left; they go once the new
        one is there, so that they are never taken for the newest.

        Args:
            tensors: arrays by name, any shape; may be empty.
            state: what :func:`~harness.checkpoint.hoststate.encode_state` takes.
            metrics: recorded in the manifest; may hold NaN.

        Raises:
            StorageError: disk full, over quota, not writable.  What was there is still there.
            TypeError, ValueError: something that could not come back as it is.
        """
        return self.commit(Snapshot(step, tensors, state, metrics or {}, frozenset(keep_steps)))

    def commit(self, snapshot: Snapshot) -> Path:
        """Writes a snapshot; see :meth:`save`."""
        if type(snapshot.step) is not int or snapshot.step < 0:
            raise ValueError(f"step must be an int >= 0, was {snapshot.step!r}")
        encoded = encode_state(snapshot.state)
        bundle.check_tensors(snapshot.tensors)
        make_dir(self.folder, self.access)
        final = self.folder / directory_name(snapshot.step)
        try:
            patiently(lambda: self._write(snapshot, encoded, final))
        except OSError as error:
            raise storage_error(error, final) from error
        self._damaged.discard(final)
        self._times.pop(final, None)
        self._allowed()
        self._retain(snapshot)
        return final

    def restore(self, step: int | None = None) -> Restored | None:
        """The newest checkpoint that verifies, or exactly that of ``step``.

        None only when there is no checkpoint at all and no step was asked for.

        Raises:
            DamagedCheckpoint: there are checkpoints and none verifies, or that of ``step`` is
                missing or does not verify.
        """
        found = self._paths()
        wanted = [(s, path) for s, path in found if step is None or s == step]
        if step is not None and not wanted:
            raise DamagedCheckpoint(
                f"{self.folder}: there is no checkpoint of step {step}",
                allowed=", ".join(str(s) for s, _ in found) or "none is there",
                action="choose one of these steps",
            )
        skipped: list[Skipped] = []
        for at, path in reversed(wanted):
            try:
                return self._read(path, tuple(skipped))
            except DamagedCheckpoint as error:
                skipped.append(Skipped(at, path, error.reason))
                self._damaged.add(path)
                self._log(f"checkpoint {skipped[-1]}")
        if not skipped:
            return None
        raise DamagedCheckpoint(
            f"{self.folder}: no checkpoint can be used, and training does not start over unasked",
            got="; ".join(str(one) for one in skipped),
            action="restore the folder from a backup, or start a new run",
        )

    def list(self) -> Sequence[CheckpointInfo]:
        """Every checkpoint, oldest first, by its manifest; its files are not read."""
        try:
            return list_checkpoints(self.folder)
        except OSError as error:
            raise storage_error(error, self.folder) from error

    def verify(self, path: Path) -> Manifest:
        """Reads every file of a checkpoint; raises DamagedCheckpoint if one differs."""
        return verify_checkpoint(path)

    def sweep(self) -> Sequence[Path]:
        """Removes what killed saves have left; returns what was removed.

        Raises:
            StorageError: the folder cannot be changed.
        """
        try:
            return leftovers.sweep_leftovers(self.folder, self._log)
        except OSError as error:
            raise storage_error(error, self.folder) from error

    def _paths(self) -> Sequence[tuple[int, Path]]:
        try:
            return checkpoint_paths(self.folder)
        except OSError as error:
            raise storage_error(error, self.folder) from error

    def _read(self, path: Path, skipped: tuple[Skipped, ...]) -> Restored:
        manifest = verify_checkpoint(path)
        try:
            tensors = bundle.read_bundle(path / BUNDLE, manifest.tensors)
        except ValueError as error:
            raise DamagedCheckpoint(f"{path}: {error}", got=str(error)) from error
        found = {name: _info(array) for name, array in tensors.items()}
        if found != dict(manifest.tensors):
            raise DamagedCheckpoint(f"{path}: tensors differ from those of the manifest")
        return Restored(
            manifest.step, path, tensors, read_state(path), dict(manifest.metrics), skipped
        )

    def _write(self, snapshot: Snapshot, encoded: bytes, final: Path) -> None:
        temporary = self.folder / leftovers.temporary_name()
        try:
            make_dir(temporary, self.access)
            bundle.write_bundle(temporary / BUNDLE, snapshot.tensors)
            self._settle(temporary)
            write_atomic(temporary / STATE, encoded)
            write_atomic(temporary / MANIFEST, render_manifest(_describe(snapshot, temporary)))
            self._allowed()
            self._arrive(temporary, final, snapshot.step)
        except BaseException:
            # A signal too: a later sweep would do it, but a full disk needs the space now.
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _settle(self, temporary: Path) -> None:
        """Modes and fsync for the files that TensorFlow wrote with its own."""
        mode = file_mode(temporary)
        for path in temporary.iterdir():
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _arrive(self, temporary: Path, final: Path, step: int) -> None:
        """Renames into place.  An older checkpoint of the same step is moved aside, not removed:
        until the new one is there, restore takes the one aside for it.
        """
        aside = None
        if final.exists():
            aside = self.folder / leftovers.replaced_name(step)
            final.rename(aside)
        try:
            temporary.rename(final)
        except BaseException:
            if aside is not None:
                aside.rename(final)
            raise
        fsync_dir(self.folder)
        if aside is not None:
            self._remove([aside])

    def _retain(self, snapshot: Snapshot) -> None:
        """Removes what :func:`~harness.checkpoint.retention.steps_to_keep` does not keep.

        The new checkpoint is durable by now, so a removal that fails is said and not raised.
        """
        found = self._paths()
        usable = [(s, p) for s, p in found if s <= snapshot.step and p not in self._damaged]
        times = [(step, self._time_of(path)) for step, path in usable]
        kept = steps_to_keep(times, self.keep, snapshot.keep_steps, self.periods)
        wanted = {path for step, path in usable if step in kept}
        for step, path in found:
            if step > snapshot.step:
                self._log(f"removing {path.name}: training went back to before it")
            elif path in self._damaged:
                self._log(f"removing {path.name}: it is damaged")
        self._remove([path for _, path in found if path not in wanted])
        self._damaged.intersection_update(path for _, path in self._paths())

    def _time_of(self, path: Path) -> float | None:
        """When a checkpoint was made, in seconds since the epoch; read once, if it matters."""
        if self.periods is None:
            return None
        if path not in self._times:
            try:
                self._times[path] = parse_time(read_manifest(path).time).timestamp()
            except DamagedCheckpoint as error:
                if path not in self._untimed:
                    self._log(f"{path.name} stays, its time cannot be read: {error.reason}")
                self._untimed.add(path)
                return None
        return self._times[path]

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in paths:
            try:
                leftovers.discard(path, self._log)
            except OSError as error:
                self._log(f"{path.name} could not be removed ({error}); it is tried again")


def _describe(snapshot: Snapshot, temporary: Path) -> Manifest:
    files = {p.name: (p.stat().st_size, sha256_file(p)) for p in sorted(temporary.iterdir())}
    if snapshot.tensors and len(files) != 3:
        raise StorageError(
            f"{temporary}: the tensors were not written as one index and one data file",
            got=", ".join(files),
        )
    return Manifest(
        step=snapshot.step,
        time=utc_now(),
        files=files,
        tensors={name: _info(array) for name, array in snapshot.tensors.items()},
        metrics=dict(snapshot.metrics),
    )


def _info(array: np.ndarray) -> TensorInfo:
    return TensorInfo(tuple(array.shape), array.dtype.name)
