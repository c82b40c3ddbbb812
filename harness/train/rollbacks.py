"""Going back to a checkpoint, with lower rates, where a value was not finite.  Pure.

What was done so stands in two places, which together survive a kill at any moment.  ``run.json``
has it before a weight is restored.  Each checkpoint has what was done before it was saved: one that
a user goes back to, or forks, brings its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.errors import TrainingError
from harness.runs.clock import utc_now

MOST = 5
"""Times that a run goes back without having gotten past the step that was bad."""
FACTOR = 0.5
"""What all learning rates are multiplied by each time."""

RollBack = dict[str, Any]
"""``{step, to_step, rate_scale, time}``: the bad step, that of the checkpoint, what the rates are
multiplied by from then on, and when."""


class NotFinite(TrainingError):
    """A value is not finite; all ranks raise it between the same steps."""

    step = 0
    """The step that gave it."""

    @classmethod
    def at(cls, step: int, where: str) -> NotFinite:
        """Of a step; ``where`` says of what value it is found."""
        error = cls(
            "training met a value that is not finite",
            got=f"NaN or Inf in {where}",
            allowed="finite numbers",
            action="lower the learning rate or set training.optimizer.clip_norm, then fork from "
            "the last checkpoint, which holds only finite weights",
        )
        error.step = step
        return error

    def ending(self, why: str) -> NotFinite:
        """The same where the run cannot go back, which ``why`` says more of."""
        error = NotFinite([replace(one, got=f"{one.got}; {why}") for one in self.problems])
        error.step = self.step
        return error


def in_a_row(done: Sequence[RollBack]) -> int:
    """How many of the last were done without getting past the steps that were bad before.

    It has gotten past a step once it goes back to a checkpoint that was saved after it.
    """
    row, worst = 0, -1
    for one in done:
        if one["to_step"] > worst:
            row, worst = 0, -1
        row, worst = row + 1, max(worst, one["step"])
    return row


def in_force(kept: Sequence[RollBack], recorded: Sequence[RollBack], step: int) -> list[RollBack]:
    """Those that hold from a checkpoint on.

    Args:
        kept: those that the checkpoint itself has.
        recorded: those of ``run.json``, which has later ones.  Where it does not begin with
            ``kept``, as of a fork, it is of another course of training.
        step: that of the checkpoint.  One back to a later checkpoint had not been done yet.
    """
    if list(recorded[: len(kept)]) != list(kept):
        return list(kept)
    return [*kept, *(one for one in recorded[len(kept) :] if one["to_step"] <= step)]


class RollBacks:
    """How often a run went back, and what follows from it; a part of the checkpoint's plain state.

    Args:
        wanted: ``training.nan: rollback``.
        recorded: gives those of ``run.json``; asked by rank 0 only, as the others here.
        note: writes them there.
        leave: removes the checkpoints of later steps than the one that is gone back to.
    """

    def __init__(
        self,
        wanted: bool = False,
        recorded: Callable[[], list[RollBack]] = list,
        note: Callable[[list[RollBack]], None] = lambda done: None,
        leave: Callable[[int], None] = lambda step: None,
    ) -> None:
        self.wanted = wanted
        self.recorded, self._note, self.leave = recorded, note, leave
        self.done: list[RollBack] = []
        self.planned: int | None = None
        """Step of the newest checkpoint that a run which nobody stops has too: the one to go back
        to, so that both end with the same bits."""

    @property
    def scale(self) -> float:
        """What all learning rates are multiplied by, beside anything else."""
        return float(FACTOR ** len(self.done))

    @property
    def left(self) -> int:
        """How many more may follow without getting past the step that was bad."""
        return MOST - in_a_row(self.done)

    def add(self, step: int, to_step: int) -> None:
        """Adds one.

        Args:
            step: the bad one.
            to_step: that of the checkpoint.
        """
        scale = self.scale * FACTOR
        one = {"step": step, "to_step": to_step, "rate_scale": scale, "time": utc_now()}
        self.done = [*self.done, one]

    def record(self) -> None:
        """Brings them to ``run.json``."""
        self._note(self.done)

    def take_up(self, state: Mapping[str, Any], step: int) -> None:
        """Learns from a checkpoint of ``step``, of that part of its state, and from ``run.json``,
        what holds now; corrects ``run.json`` where it speaks of another course of training."""
        recorded = self.recorded()
        self.from_json(state)
        self.done = in_force(self.done, recorded, step)
        if self.done != recorded:
            self.record()

    def since(self, state: Mapping[str, Any]) -> RollBack | None:
        """The last that was done, if it was after a checkpoint with this state."""
        kept, recorded = list(state.get("done", ())), self.recorded()
        later = recorded[: len(kept)] == kept and len(recorded) > len(kept)
        return recorded[-1] if later else None

    def figures(self) -> dict[str, float]:
        """For the lines of ``metrics.jsonl``."""
        return {"rollbacks": float(len(self.done))} if self.wanted else {}

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint's state."""
        return {"done": self.done, "planned": self.planned}

    def from_json(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`to_json` gave."""
        self.done, self.planned = list(state.get("done", ())), state.get("planned")
