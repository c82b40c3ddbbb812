"""Moving averages of the weights, which validation, test and everything after training use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from harness.distribute.together import copies_of
from harness.model.assemble import Assembled

AVERAGE = "average/"
"""Before the names of averaged weights in a checkpoint."""


class Averages:
    """The averages that an optimizer of :mod:`harness.train.parted` keeps of what is trained.

    Empty where ``training.ema`` is null.
    """

    def __init__(self, model: Assembled, optimizer: Any) -> None:
        self._model = model
        found = {
            id(variable): optimizer.average_of(variable)
            for variable in (model.trainable() if optimizer.use_ema else ())
        }
        named = model.state()
        self._pairs = {n: (v, found[id(v)]) for n, v in named.items() if id(v) in found}
        self._raw: list[tuple[tf.Variable, tf.Tensor]] = []

    def state(self, phase: int | None = None) -> dict[str, tf.Variable]:
        """The averages by the names of their weights, of what was trained by the end of a phase.

        Args:
            phase: its index; None is the last one.
        """
        last = len(self._model.phases) - 1 if phase is None else phase
        trained = {id(v) for at in range(last + 1) for v in self._model.trainable(at)}
        return {n: average for n, (v, average) in self._pairs.items() if id(v) in trained}

    def begin(self, beyond: int | None = None) -> None:
        """Begins them anew, with the weights as they are.

        Args:
            beyond: only those of what no phase up to this one trains.
        """
        kept = {} if beyond is None else self.state(beyond)
        for name, (variable, average) in self._pairs.items():
            if name not in kept:
                _copy(variable, average)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The model has the averages in place of its weights meanwhile."""
        for variable, average in self._pairs.values():
            self._raw += [(copy, tf.identity(copy)) for copy in copies_of(variable)]
            _copy(average, variable)
        try:
            yield
        finally:
            self.hide()

    def hide(self) -> None:
        """Gives the model its own weights back, where it has not got them."""
        for copy, value in self._raw:
            copy.assign(value)
        self._raw = []


def _copy(source: tf.Variable, target: tf.Variable) -> None:
    for one, other in zip(copies_of(source), copies_of(target), strict=True):
        other.assign(one)
