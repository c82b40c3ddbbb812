"""Keras optimizers whose variables have a rate, and a beginning, of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
import tf_keras

from harness.distribute.together import assign_here


class Parted:
    """What :func:`parted` adds to an optimizer of Keras.

    The rate of a variable is ``learning_rate`` times its factor, in the update and in weight
    decay.  Moments are corrected for the steps that a variable has had: what is unfrozen late
    begins as if the optimizer had begun with it (Adam's correction of the bias of its first
    steps would else be left out, and they would be three times too long).

    ``l2`` times the sum of the squares of what is updated is minimised too, but for what is
    excluded from weight decay.  Its gradient does not hang on the examples, so it is added once,
    to the gradients of all replicas together.
    """

    l2 = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._factors: dict[Any, float] = {}
        self._begun: dict[Any, int] = {}
        self._slots: dict[Any, list[tf.Variable]] = {}
        self._updated: Any = None
        super().__init__(*args, **kwargs)

    # What a phase says.

    def set_parts(
        self, factors: Mapping[int, float], begun: Mapping[int, int], of: Sequence[tf.Variable]
    ) -> None:
        """Sets the rates of variables in the graphs that are made from now on.

        Args:
            factors: by position in ``of``, of the learning rate; 1 where it is missing.
            begun: by position in ``of``, iterations before the variable's first step; 0 where it
                is missing.
        """
        self._factors = {self._key(of[at]): factor for at, factor in factors.items()}
        self._begun = {self._key(of[at]): count for at, count in begun.items()}

    def forget(self) -> None:
        """Begins anew: no step was done and no moment gathered.  Averages of weights
        stay, and count their steps anew."""
        averages = {id(one) for one in getattr(self, "_model_variables_moving_average", ())}
        for variable in self.variables:  # type: ignore[attr-defined]
            is_average = id(variable) in averages
            if variable is not self._learning_rate and not is_average:  # type: ignore[attr-defined]
                assign_here(variable, tf.zeros(variable.shape, variable.dtype).numpy())

    def average_of(self, variable: tf.Variable) -> tf.Variable:
        """The moving average of a variable, of an optimizer with ``use_ema``."""
        at = self._index_dict[self._key(variable)]  # type: ignore[attr-defined]
        return self._model_variables_moving_average[at]  # type: ignore[attr-defined]

    def slots(self, variable: tf.Variable) -> list[tf.Variable]:
        """What the optimizer keeps of a variable."""
        return self._slots.get(self._key(variable), [])

    # What Keras asks.

    def add_variable_from_reference(
        self, model_variable: tf.Variable, *args: Any, **kwargs: Any
    ) -> tf.Variable:
        slot = super().add_variable_from_reference(  # type: ignore[misc]
            model_variable, *args, **kwargs
        )
        self._slots.setdefault(self._key(model_variable), []).append(slot)
        return slot

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[tf.Tensor, tf.Variable]], *args: Any, **kwargs: Any
    ) -> tf.Variable:
        pairs = [(self._with_penalty(gradient, v), v) for gradient, v in grads_and_vars]
        return super().apply_gradients(pairs, *args, **kwargs)  # type: ignore[misc]

    def _with_penalty(self, gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        if not self.l2 or not self._use_weight_decay(variable):  # type: ignore[attr-defined]
            return gradient
        return gradient + 2.0 * self.l2 * tf.cast(variable, gradient.dtype)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        with self._of(variable):
            super().update_step(gradient, variable)  # type: ignore[misc]

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        for variable in variables:
            with self._of(variable):
                super()._apply_weight_decay([variable])  # type: ignore[misc]

    def _update_model_variables_moving_average(self, var_list: Sequence[tf.Variable]) -> None:
        if not self.use_ema:  # type: ignore[attr-defined]
            return
        strategy = tf.distribute.get_strategy()  # that of the call, wherever this was made
        for variable in var_list:
            with self._of(variable):
                # The steps before this one.  As TensorFlow's ExponentialMovingAverage has it with
                # num_updates: or a short run would be judged by its initial weights.
                done = tf.cast(self.iterations, tf.float32)
            kept = tf.minimum(self.ema_momentum, (1.0 + done) / (10.0 + done))  # type: ignore[attr-defined]
            average = self.average_of(variable)
            strategy.extended.update(average, _averaged, args=(variable, kept), group=False)

    @property
    def learning_rate(self) -> Any:
        rate = self._learning_rate  # type: ignore[attr-defined]
        factor = self._factors.get(self._updated, 1.0)
        return rate if factor == 1.0 else rate * factor

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        self._learning_rate.assign(rate)  # type: ignore[attr-defined]

    @property
    def iterations(self) -> Any:
        count = self._iterations  # type: ignore[attr-defined]
        begun = self._begun.get(self._updated, 0)
        return count if begun == 0 else count - begun

    @iterations.setter
    def iterations(self, variable: tf.Variable) -> None:
        raise RuntimeError("the counter of steps is the optimizer's own")

    def _key(self, variable: tf.Variable) -> Any:
        return self._var_key(variable)  # type: ignore[attr-defined]

    @contextmanager
    def _of(self, variable: tf.Variable) -> Iterator[None]:
        self._updated = self._key(variable)
        try:
            yield
        finally:
            self._updated = None


def _averaged(average: tf.Variable, variable: tf.Tensor, kept: tf.Tensor) -> None:
    share = tf.cast(kept, average.dtype)
    average.assign(share * average + (1.0 - share) * tf.convert_to_tensor(variable))


def parted(kind: type[tf_keras.optimizers.Optimizer]) -> type[Any]:
    """An optimizer of Keras with :class:`Parted` before it; its name and variables stay."""
    return type(kind.__name__, (Parted, kind), {})
