"""Rolling a run back: its next start goes on from an earlier checkpoint.

Later checkpoints are set aside, and with them what speaks of steps that are not to have been:
marks, heartbeat, best and final figures, adapted weights.  Metrics, events and the state of the
training itself go back at the next start, which restores the checkpoint as any start does.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.checkpoint.aside import (
    begin_aside,
    end_aside,
    folders_aside,
    note_of,
    put_aside,
    rollbacks_at,
    take_back,
)
from harness.checkpoint.manifest import (
    DamagedCheckpoint,
    checkpoint_paths,
    read_state,
    verify_checkpoint,
)
from harness.errors import UsageError
from harness.launch.queue import live
from harness.launch.slurm import Slurm
from harness.launch.submitting import submitting
from harness.runs.attempts import Attempt, note_roll_back, read_attempts
from harness.runs.clock import utc_now
from harness.runs.files import fsync_dir, read_lines
from harness.runs.folder import refuse_other_owner
from harness.runs.jobs import read_jobs
from harness.runs.lock import RunLock
from harness.runs.paths import RunPaths
from harness.runs.record import read_record, update_record
from harness.runs.state import run_state
from harness.runs.storage import storage_error


@dataclass(frozen=True)
class RollBack:
    """What is done, or would be.

    ``aside`` are the steps whose checkpoints are moved, ``folder`` where to (None of a dry run, or
    where nothing is moved).  ``lost_best`` is the step of the best weights by the time of the
    checkpoint, where these are not there any more or damaged.  ``lines`` counts the metric lines
    that the next start takes back, ``moved`` names what else goes.
    """

    paths: RunPaths
    step: int
    aside: tuple[int, ...]
    best: dict[str, Any] | None
    lost_best: int | None
    lines: int
    moved: tuple[str, ...] = ()
    folder: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "path": self.paths.root,
            "step": self.step,
            "set_aside": list(self.aside),
            "folder": self.folder,
            "best": self.best,
            "lost_best": self.lost_best,
            "metric_lines": self.lines,
            "moved": list(self.moved),
            "next": next_command(self.paths),
        }


@dataclass(frozen=True)
class BroughtBack:
    """What has come back, or would: checkpoints by their steps, and other names of the run."""

    paths: RunPaths
    folder: Path
    steps: tuple[int, ...]
    names: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "path": self.paths.root,
            "folder": self.folder,
            "brought_back": list(self.steps),
            "moved": list(self.names),
        }


def next_command(paths: RunPaths) -> str:
    """The command with which a run goes on: a submitted one by a job again."""
    root = str(paths.root)
    if read_jobs(paths):
        return shlex.join(["harness", "resume", root])
    return shlex.join(["harness", "run", str(paths.spec), "--run-dir", root])


def roll_back(paths: RunPaths, step: int, slurm: Slurm, *, dry_run: bool = False) -> RollBack:
    """Makes the run go on from the checkpoint of ``step`` at its next start.

    A call that was interrupted leaves a run that is whole, and is finished by the same call.

    Raises:
        UsageError: there is no such checkpoint, the run is at that step already, is under way or
            waits in the queue, or is somebody else's.
        DamagedCheckpoint: the one of ``step`` does not verify.
        EnvironmentNotAble: SLURM is here and does not answer, so nobody knows of its jobs.
        StorageError: the run cannot be read or written; nothing is lost then.
    """
    with _alone(paths, slurm):
        wanted, bad_best = _look(paths, step)
        if dry_run:
            return wanted
        return _carry_out(wanted, bad_best)


def bring_back(paths: RunPaths, slurm: Slurm, *, dry_run: bool = False) -> BroughtBack:
    """Takes the newest roll-back back, as long as the run has not gone on since.

    Raises:
        UsageError: there is none, or an attempt has begun since; see :func:`roll_back` for others.
    """
    with _alone(paths, slurm):
        asides = folders_aside(paths.checkpoints)
        if not asides:
            raise UsageError(
                f"{paths.root}: nothing is set aside",
                action="`harness checkpoints RUN` shows what is there",
            )
        folder = asides[-1][1]
        note, last = note_of(folder), _last(read_attempts(paths))
        if note and note.get("attempt") != last.number:
            raise UsageError(
                f"{paths.root}: the run has been started since it was rolled back",
                got=f"attempt {last.number} after the roll-back to step {note.get('step')}",
                action="fork the run, and move the checkpoints of "
                f"{folder} into those of the fork; it goes on from the newest",
            )
        steps = tuple(step for step, _ in checkpoint_paths(folder))
        names = tuple(path.name for path in _marks(paths) if (folder / path.name).exists())
        if not dry_run:
            _undo(paths, folder, note, last)
        return BroughtBack(paths, folder, steps, names)


@contextlib.contextmanager
def _alone(paths: RunPaths, slurm: Slurm) -> Iterator[None]:
    """Nobody trains the run, submits it, or will by a job that waits, as long as this lasts."""
    read_record(paths)
    refuse_other_owner(paths)
    with submitting(paths):
        found = live(paths, slurm)
        if found is not None:
            job, facts = found
            raise UsageError(
                f"{paths.root}: a job of this run is {facts.state.lower()}",
                got=f"job {job.id}",
                action=f"`harness cancel {shlex.quote(str(paths.root))}` ends it; then try again",
            )
        state = run_state(paths)
        with RunLock(paths):  # names the holder
            if state.word == "running":
                raise UsageError(
                    f"{paths.root}: the run is running",
                    got=str(state.reason),
                    action="wait for its end or stop it, then try again",
                )
            yield


def _look(paths: RunPaths, step: int) -> tuple[RollBack, list[tuple[int, Path]]]:
    """What there is to do; and the checkpoint of its best, where that is damaged."""
    found = checkpoint_paths(paths.checkpoints)
    here = [path for at, path in found if at == step]
    if not here:
        raise UsageError(
            f"{paths.root}: has no checkpoint of step {step}",
            allowed=", ".join(str(at) for at, _ in found) or None,
            action="choose one of these steps" if found else "train it until its first save",
        )
    others = [str(at) for at, _ in found if at != step]
    later = tuple(at for at, _ in found if at > step)
    if not later and _begun(paths, step) is None:
        raise UsageError(
            f"{paths.root}: step {step} is that of its newest checkpoint already",
            allowed=", ".join(others) or None,
            action="the next start goes on from it as it is; or choose an earlier step",
        )
    try:
        verify_checkpoint(here[0])
    except DamagedCheckpoint as error:
        raise DamagedCheckpoint(
            f"{here[0]}: the checkpoint is damaged, the run cannot go on from it",
            got=error.reason,
            allowed=", ".join(others) or None,
            action="choose another step; `harness checkpoints RUN --verify` says which are whole",
        ) from error
    best, lost, bad = _best(read_state(here[0]), found)
    lines = sum(_is_later(line, step) for line in read_lines(paths.metrics)[0])
    names = [path.name for path in _marks(paths) if path.exists()]
    return RollBack(paths, step, later, best, lost, lines, tuple(names)), bad


def _best(
    state: dict[str, Any], found: list[tuple[int, Path]]
) -> tuple[dict[str, Any] | None, int | None, list[tuple[int, Path]]]:
    """The best by then, or the step of one that cannot be had, and that one if it is damaged."""
    best = state.get("best")
    if not isinstance(best, dict) or best.get("step") is None:
        return None, None, []
    kept = [(at, path) for at, path in found if at == best["step"]]
    if not kept:
        return None, best["step"], []
    try:
        verify_checkpoint(kept[0][1])
    except DamagedCheckpoint:
        return None, best["step"], kept
    return best, None, []


def _is_later(line: dict[str, Any], step: int) -> bool:
    return isinstance(line.get("step"), int) and line["step"] > step


def _marks(paths: RunPaths) -> tuple[Path, ...]:
    return paths.finished, paths.failed, paths.cancelled, paths.heartbeat, paths.adapted


def _last(attempts: list[Attempt]) -> Attempt:
    """The newest attempt; number 0 of a run that none has begun yet (a fork)."""
    return attempts[-1] if attempts else Attempt(0, None, None, None, None)


def _carry_out(wanted: RollBack, bad_best: list[tuple[int, Path]]) -> RollBack:
    paths, last = wanted.paths, _last(read_attempts(wanted.paths))
    record = read_record(paths)
    note = {**_same_call(last, wanted.step), "time": utc_now()}
    # What speaks of the newest steps.
    fields = {"best": wanted.best, "final": None, "adapted": None}
    fields |= rollbacks_at(paths.checkpoint(wanted.step), record)
    note["record"] = {name: record.get(name) for name in fields}
    try:
        aside = _begun(paths, wanted.step) or begin_aside(paths.checkpoints, note)
        # The marks first: a kill from here on leaves a run that is open.
        for path in _marks(paths):
            if path.exists():
                path.rename(aside / path.name)
                fsync_dir(path.parent)
        found = checkpoint_paths(paths.checkpoints)
        put_aside([(at, path) for at, path in found if at > wanted.step] + bad_best, aside)
    except OSError as error:
        raise storage_error(error, paths.checkpoints) from error
    update_record(paths, **fields)
    if last.number:
        note_roll_back(paths, last.number, wanted.step)
    moved = tuple(step for step, _ in checkpoint_paths(aside))
    return replace(wanted, aside=moved, folder=aside)


def _begun(paths: RunPaths, step: int) -> Path | None:
    """The folder of a call that was interrupted: its note has what the record had before."""
    call = _same_call(_last(read_attempts(paths)), step)
    for _, aside in folders_aside(paths.checkpoints)[-1:]:
        note = note_of(aside)
        if call == {name: note.get(name) for name in call}:
            return aside
    return None


def _same_call(last: Attempt, step: int) -> dict[str, Any]:
    """By what a roll-back is known again as long as it has not come to its end."""
    return {"step": step, "attempt": last.number, "rolled_back_to": last.rolled_back_to}


def _undo(paths: RunPaths, aside: Path, note: dict[str, Any], last: Attempt) -> None:
    try:
        take_back(aside)
        update_record(paths, **(note.get("record") or {}))
        if note and last.number and last.rolled_back_to is not None:
            note_roll_back(paths, last.number, note.get("rolled_back_to"))
        # The marks last: until then the run is open.
        for path in reversed(_marks(paths)):
            if (aside / path.name).exists():
                (aside / path.name).rename(path)
                fsync_dir(path.parent)
        end_aside(aside)
    except OSError as error:
        raise storage_error(error, aside) from error
