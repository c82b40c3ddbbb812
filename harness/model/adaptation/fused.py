"""Batch-norm statistics inside of a SavedModel, which its training mode moves.

Nothing says which of its variables they are, nor with what momentum they move.  Both show in how
they do: a moving average becomes ``m * before + (1 - m) * moment of the batch``, so from 0 and from
1 it goes to places that are ``m`` apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub

from harness.errors import DataError
from harness.model.backbone import Backbone
from harness.model.pretrained import Pretrained

Call = Callable[[tf.Tensor], None]
_UNEVEN = 1e-3


class Fused:
    """The statistics of a backbone that is a SavedModel; none of any other.

    Args:
        pretrained: the layer of the model that calls it.
    """

    def __init__(self, backbone: Backbone, pretrained: Pretrained) -> None:
        self._pretrained = pretrained
        trained = {id(variable) for variable in backbone.trainable()}
        layer = backbone.module
        unseen = isinstance(layer, hub.KerasLayer)
        # One that is called the same way in training and inference has none.
        unseen = unseen and getattr(layer, "_has_training_argument", True)
        weights = layer.weights if unseen else ()
        self._others = [v for v in weights if id(v) not in trained and v.dtype == tf.float32]
        self.variables: Sequence[tf.Variable] = ()
        self._momentum: list[float] = []

    @property
    def perhaps(self) -> bool:
        """Whether there may be such statistics; :meth:`find` tells."""
        return bool(self._others)

    @contextmanager
    def moving(self) -> Iterator[None]:
        """The backbone is called in training mode, where it has such statistics."""
        with self._pretrained.in_training(bool(self._others)):
            yield

    def find(self, call: Call, examples: tf.Tensor) -> None:
        """Finds those that move, and leaves all as they were; to be called within :meth:`moving`.

        Args:
            call: the model, without regard to what it gives.

        Raises:
            DataError: some move, and not as moving averages do.
        """
        before = [variable.numpy() for variable in self._others]
        if not before:
            return
        call(examples)
        changed = [not np.array_equal(v.numpy(), old) for v, old in self._named(before)]
        self.variables = [v for v, moves in zip(self._others, changed, strict=True) if moves]
        from_zero, from_one = (self._from(start, call, examples) for start in (0.0, 1.0))
        self._momentum = []
        for variable, low, high in zip(self.variables, from_zero, from_one, strict=True):
            apart = high - low
            momentum = float(apart.mean())
            if not (0 <= momentum < 1 and np.abs(apart - momentum).max() < _UNEVEN):
                raise DataError(
                    "the backbone has variables that its training mode changes, and not as the "
                    "moving averages of a batch normalisation",
                    got=f"{variable.name}, which keeps {apart.min():.3g} to {apart.max():.3g}",
                    allowed="one momentum from 0 to 1, and no dropout before it",
                    action="use method: coral, mmd or dann",
                    path="adaptation.method",
                )
            self._momentum.append(momentum)
        for variable, old in self._named(before):
            variable.assign(old)

    def moments(self, call: Call, examples: tf.Tensor) -> list[np.ndarray]:
        """Of each of :attr:`variables` what a batch moves it towards, float64."""
        found = self._from(0.0, call, examples)
        return [value / (1 - m) for value, m in zip(found, self._momentum, strict=True)]

    def _from(self, start: float, call: Call, examples: tf.Tensor) -> list[np.ndarray]:
        for variable in self.variables:
            variable.assign(tf.fill(variable.shape, start))
        call(examples)
        return [np.asarray(variable.numpy(), np.float64) for variable in self.variables]

    def _named(self, values: Sequence[np.ndarray]) -> Iterator[tuple[tf.Variable, np.ndarray]]:
        return zip(self._others, values, strict=True)
