"""``harness fork``: a run of one's own that goes on from a verified checkpoint of another.

Of the parent only data is read: its spec (safe YAML), its record, and the files of a checkpoint
whose checksums hold.  Nothing of it is unpickled; its plug-in files are taken only if their
owner is trusted.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.checkpoint.manifest import (
    MANIFEST,
    DamagedCheckpoint,
    read_state,
    verify_checkpoint,
)
from harness.checkpoint.store import Store
from harness.errors import Problem, StorageError, UsageError
from harness.runs.continuing import changes_shapes, compare
from harness.runs.create import NEED_BYTES, make_run
from harness.runs.files import TEMPORARY, file_mode, fsync_dir, make_dir, sha256_file
from harness.runs.ids import new_run_id
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.runs.registry import runs_root as choose_root
from harness.runs.snapshot import kept_plugins
from harness.runs.storage import check_space, storage_error
from harness.spec import Resolved, load_spec, spec_from_file_resolved

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Forked:
    """A new run and what it comes from: ``{run_id, path, step, checkpoint}`` (a SHA-256)."""

    paths: RunPaths
    parent: dict[str, Any]

    @property
    def next_command(self) -> str:
        """The command that trains the fork."""
        root = str(self.paths.root)
        return shlex.join(["harness", "run", str(self.paths.spec), "--run-dir", root])

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"path": self.paths.root, "parent": self.parent, "next": self.next_command}


@dataclass(frozen=True)
class _Source:
    """A verified checkpoint and, if it is another one, that of the best weights it speaks of."""

    step: int
    folders: tuple[Path, ...]
    bytes: int
    digest: str
    best: dict[str, Any] | None


def fork_run(
    parent: RunPaths,
    *,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    run_dir: Path | None = None,
    runs_root: Path | None = None,
    step: int | None = None,
    log: Callable[[str], None],
) -> Forked:
    """Begins a new run from a checkpoint of ``parent``; trains nothing.

    Args:
        overrides: settings on top of the parent's spec.
        run_dir: directory of the new run, missing or empty; by default a new one under the root.
        step: the checkpoint to take; by default the newest that verifies.
        log: told of checkpoints that are passed over.

    Raises:
        SpecError: the spec with the overrides is invalid, or a plug-in file is not trusted.
        UsageError: a checkpoint cannot fit the overrides, or ``run_dir`` is not empty.
        StorageError: no checkpoint verifies, or the new run cannot be written.
    """
    record = read_record(parent)
    resolved = load_spec(parent.spec, overrides=overrides)
    _refuse_other_shapes(parent, resolved)
    source = _find_source(parent, step, log)
    _refuse_other_phases(parent, resolved, source)
    root = choose_root(runs_root, resolved.user.runs_root)
    paths = RunPaths(run_dir.expanduser() if run_dir else root / resolved.spec.name / new_run_id())
    _refuse_taken(paths)
    check_space(paths.root, NEED_BYTES + source.bytes)
    origin = {
        "run_id": record.get("run_id"),
        "path": str(parent.root),
        "step": source.step,
        "checkpoint": source.digest,
    }

    def fill(made: RunPaths) -> dict[str, Any]:
        for folder in source.folders:
            _copy_checkpoint(folder, made, resolved.spec.access)
        best = {"best": source.best} if source.best else {}
        # The weights mean something only on this backbone and for these classes in this order, or
        # for numbers of this scale.
        names = ("backbone_digest", "preprocessor_digest", "classes", "targets")
        pins = {name: record.get(name) for name in names}
        return {"parent": origin, **best, **{k: v for k, v in pins.items() if v is not None}}

    make_run(resolved, paths, fill=fill, plugins=_plugin_sources(parent, record, resolved))
    return Forked(paths, origin)


def _refuse_other_shapes(parent: RunPaths, resolved: Resolved) -> None:
    found = compare(spec_from_file_resolved(parent.spec), resolved.spec)
    unfit = [one for one in found.differences if changes_shapes(one.path)]
    if unfit:
        action = "leave the field as it is, or start a new run with `harness run`"
        what = "a checkpoint made before this change fits nothing after it"
        raise UsageError(
            [Problem(what, repr(one.new), repr(one.old), action, one.path) for one in unfit]
        )


def _refuse_other_phases(parent: RunPaths, resolved: Resolved, source: _Source) -> None:
    """Holds that the phases up to that of the checkpoint train the same: it holds what they did."""
    position = read_state(source.folders[-1]).get("position")
    phase = position.get("phase") if isinstance(position, dict) else None
    last = phase if isinstance(phase, int) else 0
    old = spec_from_file_resolved(parent.spec).training.phases
    new = resolved.spec.training.phases
    problems = []
    if len(new) <= last:
        what = f"the checkpoint of step {source.step} is of phase {last + 1}, {old[last].name}"
        allowed, action = f"{last + 1} or more", "keep these phases, or name an earlier --step"
        problems.append(Problem(what, str(len(new)), allowed, action, path="training.phases"))
    for at, (before, after) in enumerate(zip(old[: last + 1], new, strict=False)):
        for name in ("unfreeze", "backbone_mode"):
            was, now = getattr(before, name), getattr(after, name)
            if was != now:
                what = f"the checkpoint of step {source.step} holds what this phase trained"
                action = "leave it as it is, or name a --step of an earlier phase"
                field = f"training.phases.{at}.{name}"
                problems.append(Problem(what, repr(now), repr(was), action, field))
    if problems:
        raise UsageError(problems)


def _refuse_taken(paths: RunPaths) -> None:
    if paths.root.exists() and (not paths.root.is_dir() or any(paths.root.iterdir())):
        raise UsageError(
            f"{paths.root}: a fork needs a directory of its own",
            got="one that is not empty",
            action="name another --run-dir",
        )


def _find_source(parent: RunPaths, step: int | None, log: Callable[[str], None]) -> _Source:
    """The newest checkpoint (or that of ``step``) that verifies together with its best one."""
    every = Store(parent.checkpoints, keep=1, access="private", log=log).list()
    known = [info for info in every if step is None or info.step == step]
    if not known:
        raise UsageError(
            f"{parent.root}: has no checkpoint" + ("" if step is None else f" of step {step}"),
            allowed=", ".join(str(info.step) for info in every) or None,
            action="choose one of these steps" if every else "train it until its first save",
        )
    for info in reversed(known):
        try:
            return _verified(info.path)
        except DamagedCheckpoint as error:
            if step is not None:
                raise
            log(f"checkpoint of step {info.step} passed over: {error.reason}")
    raise DamagedCheckpoint(
        f"{parent.checkpoints}: no checkpoint verifies",
        got=", ".join(str(info.step) for info in known),
        action="restore the folder from a backup, or fork another run",
    )


def _verified(folder: Path) -> _Source:
    manifest = verify_checkpoint(folder)
    best = read_state(folder).get("best")
    best_step = best.get("step") if isinstance(best, dict) else None
    if not isinstance(best, dict) or not isinstance(best_step, int):
        best, best_step = None, manifest.step  # no validation yet
    folders, size = [folder], manifest.bytes
    if best_step != manifest.step:
        # Phases that start from the best weights, and the test at the end, need them.
        other = RunPaths(folder.parents[1]).checkpoint(best_step)
        size += verify_checkpoint(other).bytes
        folders.insert(0, other)
    return _Source(manifest.step, tuple(folders), size, sha256_file(folder / MANIFEST), best)


def _copy_checkpoint(folder: Path, made: RunPaths, access: str) -> None:
    """Copies the files that the manifest names, verifies the copy, puts it in place."""
    manifest = verify_checkpoint(folder)
    final = made.checkpoint(manifest.step)
    staging = made.checkpoints / f".{final.name}.fork{TEMPORARY}"
    make_dir(staging, access)
    for name in (*manifest.files, MANIFEST):
        _copy_file(folder / name, staging / name)
    if verify_checkpoint(staging) != manifest:
        raise StorageError(
            f"{folder}: changed while it was copied", action="run the same command again"
        )
    try:
        fsync_dir(staging)
        staging.rename(final)
        fsync_dir(made.checkpoints)
    except OSError as error:
        raise storage_error(error, final) from error


def _copy_file(source: Path, target: Path) -> None:
    try:
        with source.open("rb") as reading, target.open("xb") as writing:
            os.fchmod(writing.fileno(), file_mode(target.parent))
            shutil.copyfileobj(reading, writing, _CHUNK)
            writing.flush()
            os.fsync(writing.fileno())
    except OSError as error:
        raise storage_error(error, error.filename or target) from error


def _plugin_sources(
    parent: RunPaths, record: dict[str, Any], resolved: Resolved
) -> list[str] | None:
    """The parent's own copies of its plug-ins, unless the overrides name others."""
    if spec_from_file_resolved(parent.spec).plugins != resolved.spec.plugins:
        return None
    return kept_plugins(parent, record)
