"""Which checkpoint a run goes on from: read by rank 0, heard of by all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.checkpoint.manifest import DamagedCheckpoint
from harness.train.parts import Parts, RestoredState
from harness.train.position import Position
from harness.train.rollbacks import MOST, NotFinite, RollBacks

Fetched = tuple[RestoredState | None, dict[str, Any] | None]
"""A checkpoint, on rank 0 alone, and what all ranks hear of it: ``{state, metrics}``."""


class Course:
    """Finds the checkpoints of a run's course of training; all ranks call it alike.

    Two ranks may see different files on a shared disk, and many would crowd it.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def of(self, step: int) -> Fetched:
        """The checkpoint of a step."""
        restored = self._parts.saver.restore(step) if self._first else None
        return restored, self._parts.distribution.tell_all(_head(restored))

    def newest(self) -> Fetched:
        """The newest that verifies, for a start; None where there is none."""
        restored = head = None
        if self._first:
            restored = self._parts.saver.restore()
            restored = restored and self._not_left(restored)
            if restored is None:
                self._parts.rollbacks.take_up({}, -1)
            head = self._told(restored)
        return restored, self._parts.distribution.tell_all(head)

    def before(self, bad: NotFinite) -> Fetched:
        """The one to go back to, which is noted by then.

        Raises:
            NotFinite: there is none, or the run went back too often.
        """
        parts, rollbacks = self._parts, self._parts.rollbacks
        restored = head = None
        if self._first:
            restored = self._read(rollbacks.planned)
            head = self._told(restored)
        head = parts.distribution.tell_all(head)
        if head is None:
            raise bad.ending("there is no checkpoint to go back to")
        rollbacks.from_json(head["state"]["rollbacks"])
        to_step = Position.from_json(head["state"]["position"]).step
        rollbacks.add(bad.step, to_step)
        if rollbacks.left < 0:
            scale = rollbacks.done[-2]["rate_scale"]
            why = f"it went back {MOST} times without getting past that step"
            raise bad.ending(f"{why}, to {scale:g} of its learning rates")
        if self._first:
            rollbacks.record()
            rollbacks.leave(to_step)
        head["state"]["rollbacks"] = parts.distribution.tell_all(rollbacks.to_json())
        return restored, head

    @property
    def _first(self) -> bool:
        return self._parts.distribution.topology.is_first

    # On rank 0.

    def _not_left(self, restored: RestoredState) -> RestoredState | None:
        """The same, unless the run has gone back to before it since it was saved."""
        rollbacks = self._parts.rollbacks
        last = rollbacks.since(restored.state.get("rollbacks", {}))
        if last is None or last["to_step"] >= restored.step:
            return restored
        found = self._read(last["to_step"])
        if found is not None and found.step < restored.step:
            rollbacks.leave(found.step)
        return found

    def _read(self, step: int | None) -> RestoredState | None:
        """The checkpoint of a step if it can be had, else the newest."""
        saver = self._parts.saver
        if step is not None:
            try:
                found: RestoredState = saver.restore(step)
                return found
            except DamagedCheckpoint as error:
                self._parts.watch.say(f"{error.problems[0].what}: the newest stands for it")
        newest: RestoredState | None = saver.restore()
        return newest

    def _told(self, restored: RestoredState | None) -> dict[str, Any] | None:
        """What all hear of the checkpoint that the run goes on from."""
        head = _head(restored)
        if restored is not None and head is not None:
            head["state"]["best"] = self._best_still_there(restored.state, restored.metrics)
            rollbacks = self._parts.rollbacks
            rollbacks.take_up(restored.state.get("rollbacks", {}), restored.step)
            head["state"]["rollbacks"] = rollbacks.to_json()
        return head

    def _best_still_there(
        self, before: Mapping[str, Any], metrics: Mapping[str, float]
    ) -> Mapping[str, Any]:
        """The best so far, as a checkpoint has it, if its weights can still be had.

        Those of an earlier checkpoint may have gone for better ones, which came after it.  Then
        the last validation counts if it was of these very weights, else there is none until the
        next.
        """
        best: Mapping[str, Any] = before["best"]
        if best["step"] is None or self._parts.kept(best["step"]):
            return best
        position = Position.from_json(before["position"])
        ends_epoch = position.epoch_step(self._parts.plan.phases[position.phase]) == 0
        value = metrics.get(best["metric"], math.nan)
        mine = ends_epoch and position.validated and math.isfinite(value)
        now = f"those of step {position.step}" if mine else "the next that are validated"
        self._parts.watch.say(
            f"the best weights before, of step {best['step']}, are not kept any more: {now} count "
            "as the best"
        )
        found = {"value": value, "step": position.step} if mine else {"value": None, "step": None}
        return {"metric": best["metric"], **found}


def tell_where(parts: Parts, step: int, bad: NotFinite | None) -> None:
    """Says from which step the run goes on; in the midst of training, because of ``bad``."""
    rollbacks, watch = parts.rollbacks, parts.watch
    rates = f"learning rates are {rollbacks.scale:g} of those of the spec"
    if bad is None:
        watch.continues(step)
        if rollbacks.done:
            watch.say(f"{rates}, since it was rolled back (training.nan), {_times(rollbacks)}")
        return
    watch.goes_back(step)
    watch.say(
        f"{bad.problems[0].got}: goes back from step {bad.step} to the checkpoint of step {step}; "
        f"{rates} now; {rollbacks.left} of {MOST} roll-backs are left until it gets past that step"
    )


def _times(rollbacks: RollBacks) -> str:
    count = len(rollbacks.done)
    return "once" if count == 1 else f"{count} times"


def _head(restored: RestoredState | None) -> dict[str, Any] | None:
    if restored is None:
        return None
    return {"state": dict(restored.state), "metrics": dict(restored.metrics)}
