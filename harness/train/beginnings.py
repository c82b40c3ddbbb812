"""What an optimizer remembers from phase to phase, and since when of each variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from harness.model.assemble import Assembled
from harness.train.plan import Phase


class Beginnings:
    """The optimizer's side of a phase: whose steps it counts from where, and their rates.

    A part of the checkpoint's plain state: the variables are known by their position among all
    that any phase trains, which the spec alone decides.
    """

    def __init__(self, model: Assembled, optimizer: Any) -> None:
        self._model = model
        self._optimizer = optimizer
        self._all = model.trainable()
        self._begun: dict[int, int] = {}

    def enter(self, phase: Phase, *, anew: bool) -> None:
        """Sets rates and counts of what ``phase`` trains.

        Args:
            anew: it begins now; else this goes on in the midst of it.
        """
        if anew:
            if phase.optimizer_state == "restart" and phase.index > 0:
                self._optimizer.forget()
                self._begun = {}
            count = int(self._optimizer.iterations.numpy())
            for at in self._positions(phase.index):
                self._begun.setdefault(at, count)
        distances = self._distances(phase.index)
        factors = {at: phase.factor(distance) for at, distance in distances.items()}
        self._optimizer.set_parts(factors, self._begun, self._all)

    def idle(self, phase: int) -> list[tf.Variable]:
        """What the optimizer keeps of variables that no phase up to ``phase`` trains."""
        trained = {id(v) for at in range(phase + 1) for v in self._model.trainable(at)}
        idle = [variable for variable in self._all if id(variable) not in trained]
        return [slot for variable in idle for slot in self._slots(variable)]

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint's state."""
        return {"begun": {str(at): count for at, count in self._begun.items()}}

    def from_json(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`to_json` gave."""
        self._begun = {int(at): count for at, count in state["begun"].items()}

    def _slots(self, variable: tf.Variable) -> list[tf.Variable]:
        return list(self._optimizer.slots(variable))

    def _positions(self, phase: int) -> list[int]:
        trained = {id(variable) for variable in self._model.trainable(phase)}
        return [at for at, variable in enumerate(self._all) if id(variable) in trained]

    def _distances(self, phase: int) -> dict[int, int]:
        """By position: how far what is trained of the backbone is from the head."""
        unfrozen = self._model.phases[phase].unfrozen
        known = {id(v): away for v, away in zip(unfrozen.variables, unfrozen.distance, strict=True)}
        return {at: known[id(v)] for at, v in enumerate(self._all) if id(v) in known}
