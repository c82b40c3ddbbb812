"""Brings the state of the loop into checkpoints and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from harness.distribute.together import assign_here
from harness.errors import TrainingError
from harness.model.assemble import Assembled, stable_names
from harness.train import state
from harness.train.agreement import check_equal
from harness.train.averages import AVERAGE, Averages
from harness.train.beginnings import Beginnings
from harness.train.course import Course
from harness.train.parts import Parts, RestoredState
from harness.train.position import Position
from harness.train.rollbacks import NotFinite


class Keeper:
    """Saves and restores everything that :class:`~harness.train.loop.Trainer` works with."""

    def __init__(self, parts: Parts, sums: state.Sums, beginnings: Beginnings) -> None:
        self._parts = parts
        self._sums = sums
        self._beginnings = beginnings
        self._course = Course(parts)
        self.averages = Averages(parts.model, parts.optimizer)
        first = parts.model.state(0)
        later = {name: v for name, v in parts.model.state().items() if name not in first}
        # Of what is unfrozen later: the weights from before are these, and no checkpoint has them.
        self._pretrained = state.snapshot(later, "")
        self._known: dict[int, Mapping[str, tf.Variable]] = {}
        self._saved: Position | None = None
        self._saved_at = time.monotonic()

    def seconds_since_save(self) -> float:
        """Seconds since the last save, or since the start of this attempt."""
        return time.monotonic() - self._saved_at

    def has_saved(self, step: int) -> bool:
        """Whether the newest checkpoint is that of ``step``."""
        return self._saved is not None and self._saved.step == step

    def save(
        self,
        position: Position,
        metrics: Mapping[str, float],
        then: Callable[[], None] = lambda: None,
        *,
        planned: bool = True,
    ) -> None:
        """Begins to commit a checkpoint of ``position``, unless that is done already.

        It is written while training goes on; :meth:`check` and :meth:`settle` say what became
        of it.

        Args:
            then: called once it is there.
            planned: a run that nobody stops has this checkpoint too.

        Raises:
            NotFinite: a weight is not finite; nothing is written then.
            StorageError: the one before could not be written.
        """
        if self._saved == position:
            return
        parts = self._parts
        tensors = {**state.snapshot(self._named(position.phase), ""), **self._sums.tensors()}
        self._check_finite(tensors, position.step)
        if planned:
            parts.rollbacks.planned = position.step
        keep = {parts.best.step, parts.rollbacks.planned if parts.rollbacks.wanted else None}
        # Metrics first: a checkpoint must never be newer than the lines that led to it.
        parts.writer.flush()
        parts.saver.save(
            position.step,
            tensors,
            {
                "position": position.to_json(),
                **{name: part.to_json() for name, part in self._json_parts().items()},
            },
            metrics=metrics,
            keep_steps=[step for step in keep if step is not None],
            then=then,
        )
        self._saved, self._saved_at = position, time.monotonic()

    def check(self) -> None:
        """Raises the StorageError of a checkpoint that could not be written; waits for none."""
        self._parts.saver.check()

    def settle(self) -> None:
        """Returns once what was saved is there; raises as :meth:`check`."""
        self._parts.saver.settle()

    def restore(self, bad: NotFinite | None = None) -> tuple[Position, dict[str, float]] | None:
        """Takes back the newest checkpoint that verifies; None when there is none.

        Args:
            bad: in the midst of training, on all ranks: because of this.

        Raises:
            NotFinite: that cannot be, or was too often; as ``bad``, and says so.
        """
        model, optimizer = self._parts.model, state.optimizer_state(self._parts.optimizer)
        course = self._course
        restored, head = course.newest() if bad is None else course.before(bad)
        if restored is not None:
            load_weights(model, restored)
            if bad is not None:
                self._as_before_later_phases(phase_of(restored))
            kept = self._optimizer(phase_of(restored))
            state.assign(kept, restored.tensors, state.OPTIMIZER)
            averages = self.averages.state(phase_of(restored))
            state.assign(averages, restored.tensors, AVERAGE)
            self._sums.restore(restored.tensors)
        # The averages are among what the optimizer has.
        self._parts.distribution.broadcast([*model.state().values(), *optimizer.values()])
        if head is None:
            return None
        self._sums.share(self._parts.distribution)
        for name, part in self._json_parts().items():
            if name in head["state"]:
                part.from_json(head["state"][name])
        self._saved = Position.from_json(head["state"]["position"])
        return self._saved, dict(head["metrics"])

    def _check_finite(self, tensors: Mapping[str, np.ndarray], step: int) -> None:
        bad = state.not_finite(tensors, step, state.MODEL)
        # One rank that goes back by itself would wait for the others for ever.
        if self._parts.rollbacks.wanted and self._parts.distribution.agree(bad is not None):
            bad = bad or NotFinite.at(max(0, step - 1), f"a weight of another rank at step {step}")
        if bad is not None:
            raise bad

    def _as_before_later_phases(self, phase: int) -> None:
        """What only phases after ``phase`` train is as in a process that has not come to them."""
        weights = self._parts.model.state()
        for name in weights.keys() - self._parts.model.state(phase).keys():
            assign_here(weights[name], self._pretrained[name])
        for slot in self._beginnings.idle(phase):
            assign_here(slot, np.zeros(tuple(slot.shape), slot.dtype.as_numpy_dtype))
        self.averages.begin(beyond=phase)

    def load(self, step: int) -> tuple[dict[str, float], int]:
        """Gives the model the weights of a checkpoint that were validated, on all ranks; its
        figures and its phase."""
        restored, head = self._course.of(step)
        assert head is not None, "the store raises for a step that it does not have"
        if restored is not None:
            load_weights(self._parts.model, restored, averaged=True)
            then, now = self._parts.model.state(phase_of(restored)), self._parts.model.state()
            for name in now.keys() - then.keys():
                assign_here(now[name], self._pretrained[name])
        self._parts.distribution.broadcast(list(self._parts.model.state().values()))
        return dict(head["metrics"]), int(head["state"]["position"]["phase"])

    def load_best(self) -> None:
        """Gives the model the best weights so far; everything else goes on.

        Raises:
            TrainingError: there has been no validation yet.
        """
        step = self._parts.best.step
        if step is None:
            raise TrainingError(
                "a phase starts from the best weights and there are none yet",
                got="no validated epoch with a finite value before it",
                allowed="start_from: best after a phase with validation",
                action="use start_from: last",
            )
        self.load(step)
        self.averages.begin()
        self._parts.watch.say(f"starts from the best weights, those of step {step}")

    def check_equal(self, when: str) -> None:
        """Holds that every replica has the same weights, and the same optimizer; of all ranks."""
        weights = self._parts.model.keras.weights
        named = dict(zip(stable_names(weights), weights, strict=True))
        every = state.optimizer_state(self._parts.optimizer)
        optimizer = {f"optimizer {name}": variable for name, variable in every.items()}
        check_equal(self._parts.distribution, named | optimizer, when)

    def variables(self, phase: int) -> dict[str, tf.Variable]:
        """What a checkpoint of a phase holds: all that was trained by its end."""
        optimizer = self._optimizer(phase)
        kept = {f"optimizer {name}": variable for name, variable in optimizer.items()}
        return self._parts.model.state(phase) | kept

    def _named(self, phase: int) -> Mapping[str, tf.Variable]:
        """What a checkpoint of a phase holds, by the names there; looked for once, since Keras
        walks through the whole model for it."""
        if phase not in self._known:
            self._known[phase] = {
                prefix + name: variable
                for prefix, variables in (
                    (state.MODEL, self._parts.model.state(phase)),
                    (state.OPTIMIZER, self._optimizer(phase)),
                    (AVERAGE, self.averages.state(phase)),
                )
                for name, variable in variables.items()
            }
        return self._known[phase]

    def _optimizer(self, phase: int) -> dict[str, tf.Variable]:
        """What the optimizer keeps of the variables that were trained by the end of a phase."""
        idle = {id(slot) for slot in self._beginnings.idle(phase)}
        idle |= {id(average) for average in self.averages.state().values()}
        every = state.optimizer_state(self._parts.optimizer)
        return {name: variable for name, variable in every.items() if id(variable) not in idle}

    def _json_parts(self) -> dict[str, state.HasJson]:
        parts: dict[str, state.HasJson] = {
            "beginnings": self._beginnings,
            "best": self._parts.best,
            "callbacks": self._parts.callbacks,
            "rollbacks": self._parts.rollbacks,
        }
        if self._parts.early is not None:
            parts["early"] = self._parts.early
        if self._parts.plateau is not None:
            parts["plateau"] = self._parts.plateau
        if self._parts.scaling is not None:
            parts["loss_scale"] = self._parts.scaling
        return parts


def load_weights(model: Assembled, restored: RestoredState, *, averaged: bool = False) -> None:
    """Gives ``model`` the weights of a checkpoint and nothing else of it.

    What only later phases train is not in it, and keeps its values.

    Args:
        averaged: their moving averages where the checkpoint has them.

    Raises:
        TrainingError: they do not fit the model.
    """
    tensors = averaged_tensors(restored) if averaged else restored.tensors
    state.assign(model.state(phase_of(restored)), tensors, state.MODEL)


def averaged_tensors(restored: RestoredState) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint, weights as their moving averages where it has them."""
    tensors = dict(restored.tensors)
    for name, value in restored.tensors.items():
        if name.startswith(AVERAGE):
            tensors[state.MODEL + name.removeprefix(AVERAGE)] = value
    return tensors


def phase_of(restored: RestoredState) -> int:
    """The phase in which a checkpoint was made."""
    return int(restored.state["position"]["phase"])
