"""The checkpoints of a run as its user sees them: which are there, whole, the best, the next."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.checkpoint.listing import ASIDE, CHECKPOINT, Found, everything_in
from harness.checkpoint.manifest import damages
from harness.errors import UsageError
from harness.runs.files import read_lines
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.runs.storage import storage_error


@dataclass(frozen=True)
class Row:
    """A checkpoint, or what is no whole one.

    ``kind`` is one of :mod:`harness.checkpoint.listing`; ``epoch`` counts from 0 over all phases,
    as in the metrics; ``damages`` says what is wrong, a line a file, and ``verified`` whether all
    files were compared with their checksums.
    """

    step: int | None
    kind: str
    path: Path
    phase: str | None
    epoch: int | None
    time: str | None
    bytes: int
    best: bool
    damages: tuple[str, ...] = ()
    verified: bool = False


@dataclass(frozen=True)
class Rows:
    """All of a run; ``next`` is the step that its next start goes on from, as far as is known."""

    paths: RunPaths
    rows: tuple[Row, ...]
    next: int | None

    @property
    def damaged(self) -> tuple[Row, ...]:
        """Those of which something is damaged."""
        return tuple(row for row in self.rows if row.damages)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        best = [row.step for row in self.rows if row.best]
        rows = [{**asdict(row), "next": self.is_next(row)} for row in self.rows]
        return {
            "path": self.paths.root,
            "next": self.next,
            "best": best[0] if best else None,
            "checkpoints": rows,
        }

    def is_next(self, row: Row) -> bool:
        """Whether the next start goes on from it."""
        return row.kind == CHECKPOINT and row.step == self.next


def checkpoints_of(paths: RunPaths, *, verify: bool = False, step: int | None = None) -> Rows:
    """Looks at the checkpoints of a run; changes nothing, also while it trains.

    Args:
        verify: read all their files and compare these with the checksums.
        step: only this one.

    Raises:
        UsageError: there is none of this step.
        StorageError: the run cannot be read.
    """
    record = read_record(paths)
    try:
        found = everything_in(paths.checkpoints)
    except OSError as error:
        raise storage_error(error, paths.checkpoints) from error
    if step is not None:
        found = _only(paths, found, step)
    lines, best = Lines(read_lines(paths.metrics)[0]), _best_step(record, found)
    rows = [_row(one, record, lines, best, verify=verify) for one in found]
    rows = [
        row for row in rows if not row.damages or row.path.exists()
    ]  # it was replaced meanwhile
    whole = [row.step for row in rows if row.kind == CHECKPOINT and not row.damages]
    return Rows(paths, tuple(rows), max((at for at in whole if at is not None), default=None))


class Lines:
    """The metric lines of a run, asked for the epoch of a step.

    Every epoch ends with lines, so that the first one from a step on is of its epoch.
    """

    def __init__(self, lines: Iterable[dict[str, Any]]) -> None:
        known = [
            (line["step"], line["epoch"], line.get("epoch_end", False))
            for line in lines
            if isinstance(line.get("step"), int) and isinstance(line.get("epoch"), int)
        ]
        self._lines = sorted(known)
        self._steps = [step for step, _, _ in self._lines]

    def epoch_of(self, step: int, *, newest: bool) -> int | None:
        """Epoch of a step, from 0; None where nothing tells.

        Args:
            newest: all lines up to the step are there, so that the last one tells of it.
        """
        at = bisect_left(self._steps, step)
        if at < len(self._lines):
            return self._lines[at][1]
        if not newest or not self._lines:
            return None
        _, epoch, ended = self._lines[-1]
        return epoch + 1 if ended else epoch


def _only(paths: RunPaths, found: Sequence[Found], step: int) -> list[Found]:
    chosen = [one for one in found if one.step == step and one.kind in (CHECKPOINT, ASIDE)]
    if not chosen:
        there = sorted({one.step for one in found if one.step is not None})
        raise UsageError(
            f"{paths.root}: has no checkpoint of step {step}",
            allowed=", ".join(map(str, there)) or None,
            action="choose one of these steps" if there else "train it until its first save",
        )
    return chosen


def _best_step(record: dict[str, Any], found: Sequence[Found]) -> int | None:
    """As recorded, else as the newest checkpoint has it."""
    kept = [one for one in found if one.kind == CHECKPOINT and one.state]
    for best in (record.get("best"), kept[-1].state.get("best") if kept else None):
        step = best.get("step") if isinstance(best, dict) else None
        if isinstance(step, int):
            return step
    return None


def _row(
    one: Found, record: dict[str, Any], lines: Lines, best: int | None, *, verify: bool
) -> Row:
    is_one = one.kind in (CHECKPOINT, ASIDE)
    wrong = [one.problem] if one.problem else []
    if verify and is_one:
        wrong = damages(one.path)
    epoch = None
    if is_one and one.step is not None:
        epoch = lines.epoch_of(one.step, newest=one.kind == CHECKPOINT)
    return Row(
        one.step,
        one.kind,
        one.path,
        _phase(one, record),
        epoch,
        one.time,
        one.bytes,
        is_one and one.kind == CHECKPOINT and one.step == best,
        tuple(wrong),
        verify and is_one,
    )


def _phase(one: Found, record: dict[str, Any]) -> str | None:
    """Name of the phase in which a checkpoint was made."""
    position = one.state.get("position")
    at = position.get("phase") if isinstance(position, dict) else None
    trained = record.get("trained")
    if not isinstance(at, int) or not isinstance(trained, list) or not 0 <= at < len(trained):
        return None
    return str(trained[at].get("phase"))
