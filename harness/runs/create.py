"""Creating a run, or finding the one that the same command continues."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.runs import registry
from harness.runs.clock import utc_now
from harness.runs.continuing import Comparison, compare, refusal
from harness.runs.environment import environment_facts, git_diff, installed_distributions
from harness.runs.files import apply_access, write_atomic
from harness.runs.folder import refuse_foreign, refuse_other_owner, refuse_own_spec
from harness.runs.ids import looks_like_run_id, new_run_id
from harness.runs.lock import RunLock
from harness.runs.marks import reopen
from harness.runs.paths import RunPaths
from harness.runs.record import mend_record, read_record, update_record, write_record
from harness.runs.snapshot import guard_plugins, keep_plugins
from harness.runs.state import run_state
from harness.runs.storage import check_space, check_writable, nearest_existing

if TYPE_CHECKING:
    from harness.spec import Resolved, Spec

NEED_BYTES = 16 << 20
"""Free space without which nothing is begun: record, logs and metrics of an attempt.
Checkpoints are checked when their size is known."""

CREATED, CONTINUED, FINISHED = "created", "continued", "finished"
_OPEN = ("new", "stopped", "interrupted")


def create_run(
    resolved: Resolved,
    run_dir: Path | None = None,
    *,
    new: bool = False,
    runs_root: str | Path | None = None,
    say: Callable[[str], None] | None = None,
    beside: bool = True,
    before_change: Callable[[RunPaths], None] | None = None,
) -> tuple[RunPaths, str]:
    """The run that a spec is to be trained in, and how it was come by.

    With ``run_dir``: the run in it, if there is one and the spec agrees in all fields that are
    fixed; a new run in it otherwise.  Without: the newest run of the spec's name under the runs
    root, if its fixed fields agree, it is neither finished nor failed, and nobody trains it;
    otherwise a new one.  Changed *free* fields are written to the run's spec, and more epochs in
    the last phase open a finished run again.

    Args:
        new: do not look for a run to continue.
        runs_root: wins over ``$HARNESS_RUNS_ROOT`` and the user's config.
        beside: a new run may begin while the newest one of this spec is being trained.
        before_change: is called before the spec of a run that is there is changed, and may refuse
            that by an error.
        say: hears, in a sentence, that a run which failed is left alone, and how to go on with it.

    Returns:
        The run, and ``created``, ``continued`` or ``finished``.

    Raises:
        UsageError: ``run_dir`` holds a run of another spec (each field is named, with the command
            that forks it), somebody else's run, something else, or a run that is being trained.
        StorageError: not writable, full, or the run in ``run_dir`` is broken.
        SpecError: a plug-in file cannot be read or is not trusted.
    """
    if run_dir is not None:
        paths = RunPaths(Path(run_dir).expanduser())
        return _in_directory(resolved, paths, new, before_change, say)
    folder = registry.runs_root(runs_root, resolved.user.runs_root) / resolved.spec.name
    _check_place(folder)
    if not new:
        found, word = _newest_of(resolved.spec, folder, say)
        if found is not None and word in _OPEN:
            return _carry_on(resolved.spec, found, before_change, say)
        if found is not None and word == "running" and not beside:
            raise UsageError(
                f"{found.root}: this spec is being trained in this run already",
                action=f"`harness status {found.root}` shows it, `harness cancel {found.root}` "
                "ends it; --new begins another run",
            )
        if found is not None and word == "failed" and say is not None:
            path = shlex.quote(str(found.root))
            say(
                f"the newest run of this spec has failed; `--run-dir {path}` continues it, "
                "a new run begins (--new is not needed)"
            )
    return make_run(resolved, RunPaths(folder / new_run_id())), CREATED


def make_run(
    resolved: Resolved,
    paths: RunPaths,
    *,
    fill: Callable[[RunPaths], dict[str, Any]] | None = None,
    plugins: list[str] | None = None,
) -> RunPaths:
    """Writes a new run into ``paths``, which must be missing or empty; its record comes last.

    Args:
        fill: puts more into the folder before the record and returns fields for it (a fork's
            checkpoints and parent).
        plugins: plug-in files to keep instead of the spec's own, in their order (a fork's).

    Raises:
        StorageError, SpecError: see :func:`create_run`.
    """
    from harness.spec import dump_spec, spec_digest

    spec = resolved.spec
    _check_place(paths.root)
    RunPaths.create(paths.root, spec.access)
    write_atomic(paths.spec, dump_spec(spec))
    write_atomic(paths.environment_lock, "\n".join(installed_distributions()) + "\n")
    folder = resolved.file.parent if resolved.file else Path.cwd()
    facts = environment_facts(folder)
    if facts["git"]["dirty"]:
        facts["git"] |= _keep_diff(paths, folder)
    run_id = paths.root.name if looks_like_run_id(paths.root.name) else new_run_id()
    record = {
        "run_id": run_id,
        "name": spec.name,
        "created": utc_now(),
        "spec_digest": spec_digest(spec),
        "spec_file": str(resolved.file) if resolved.file else None,
        **facts,
        "plugins": _keep_plugins(resolved, paths, plugins),
        "parent": None,
        "attempts": 0,
        **(fill(paths) if fill else {}),
    }
    write_record(paths, record)
    return paths


def _keep_diff(paths: RunPaths, folder: Path) -> dict[str, Any]:
    try:
        write_atomic(paths.git_diff, git_diff(folder))
    except (OSError, subprocess.SubprocessError) as error:
        return {"diff": None, "why": str(error)}
    return {"diff": paths.git_diff.name}


def _keep_plugins(
    resolved: Resolved, paths: RunPaths, sources: list[str] | None
) -> list[dict[str, Any]]:
    refs = resolved.spec.plugins
    kept = keep_plugins(
        paths, refs if sources is None else sources, resolved.spec.access, resolved.user.trust
    )
    # A fork copies from its parent's copies; the record names what the spec names.
    return [{**entry, "ref": ref} for entry, ref in zip(kept, refs, strict=True)]


def _check_place(place: Path) -> None:
    """Space and permission, asked before anything is made."""
    check_space(place, NEED_BYTES)
    folder = nearest_existing(place)
    if folder.is_dir():
        check_writable(folder)


def _in_directory(
    resolved: Resolved,
    paths: RunPaths,
    new: bool,
    before_change: Callable[[RunPaths], None] | None,
    say: Callable[[str], None] | None,
) -> tuple[RunPaths, str]:
    if not paths.record.exists():
        refuse_own_spec(resolved, paths)
        refuse_foreign(paths)
        _check_place(paths.root)
        RunPaths.create(paths.root, resolved.spec.access)
        with RunLock(paths):  # two commands may name the same new folder at once
            if not paths.record.exists():
                return make_run(resolved, paths), CREATED
    if new:
        raise UsageError(
            f"{paths.root}: holds a run already",
            got="--new",
            action="name another --run-dir, or leave out --new to continue it",
        )
    check_space(paths.root, NEED_BYTES)
    refuse_other_owner(paths)
    return _carry_on(resolved.spec, paths, before_change, say)


def _newest_of(
    spec: Spec, folder: Path, say: Callable[[str], None] | None
) -> tuple[RunPaths | None, str]:
    """The newest of our runs in ``folder`` with its state, if ``spec`` can go on with it.

    What a killed creation left is passed over; a broken record is an error and not passed over,
    or training would start from nothing without a word.
    """
    from harness.spec import spec_digest, spec_from_file_resolved

    me = check_writable(folder).st_uid if folder.is_dir() else None
    ours = (run for run in registry.runs_in(folder) if _owner(run) == me)
    paths = next(ours, None)
    if paths is None:
        return None, ""
    mend_record(paths, say or _nothing)
    record = read_record(paths)
    if record.get("spec_digest") != spec_digest(spec):
        return None, ""
    word = run_state(paths, record).word
    if word not in (*_OPEN, "failed", "running"):
        return None, word
    can_continue = compare(spec_from_file_resolved(paths.spec), spec).can_continue
    return (paths if can_continue else None), word


def _nothing(text: str) -> None:
    """Nobody listens."""


def _owner(paths: RunPaths) -> int | None:
    try:
        return paths.record.stat().st_uid
    except OSError:
        return None  # half-written, or somebody's that we may not look into


def _carry_on(
    spec: Spec,
    paths: RunPaths,
    before_change: Callable[[RunPaths], None] | None,
    say: Callable[[str], None] | None,
) -> tuple[RunPaths, str]:
    """Goes on with a run that is there: checks the spec, writes what may change."""
    from harness.spec import spec_digest, spec_from_file_resolved

    mend_record(paths, say or _nothing)
    record = read_record(paths)
    old = spec_from_file_resolved(paths.spec)
    comparison = compare(old, spec)
    if not comparison.can_continue:
        raise refusal(paths, old, spec, comparison)
    if record.get("spec_digest") != spec_digest(spec):
        raise UsageError(
            f"{paths.spec}: is not the spec that the run was begun with",
            got=f"digest {spec_digest(spec)[:12]}, run.json has {str(record['spec_digest'])[:12]}",
            action=f"undo the edit of {paths.spec}, or name another --run-dir",
        )
    finished = paths.finished.exists()
    if finished and not comparison.extended:
        return paths, FINISHED
    if comparison.differences:
        if before_change is not None:
            before_change(paths)
        with RunLock(paths):
            _write_changes(spec, paths, comparison)
    return paths, CONTINUED


def _best_still_there(paths: RunPaths) -> dict[str, Any] | None:
    """The record's best, which stays valid for more epochs as long as its checkpoint is there."""
    best = read_record(paths).get("best")
    if not isinstance(best, dict) or not isinstance(best.get("step"), int):
        return None
    return best if paths.checkpoint(best["step"]).is_dir() else None


def _write_changes(spec: Spec, paths: RunPaths, comparison: Comparison) -> None:
    from harness.spec import dump_spec

    if comparison.extended and paths.finished.exists():
        # First: a kill in between leaves an open run, never a finished one with epochs to do.
        reopen(paths)
        update_record(paths, final=None, best=_best_still_there(paths))
    if any(one.path == "access" for one in comparison.differences):
        apply_access(paths.root, spec.access)
        if paths.plugins.exists():
            guard_plugins(paths)
    write_atomic(paths.spec, dump_spec(spec))
