"""Everything a run needs to go on as if nothing had happened, in and out of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tf_keras

from harness.distribute.base import Distribution
from harness.distribute.together import assign_here, copies_of
from harness.errors import TrainingError
from harness.model.assemble import stable_names
from harness.train.rollbacks import NotFinite
from harness.train.step import Steps

MODEL, OPTIMIZER, SUMS = "model/", "optimizer/", "sums/"


class HasJson(Protocol):
    """A part of the state that is plain JSON."""

    def to_json(self) -> dict[str, Any]:
        """The part's state."""
        ...

    def from_json(self, state: Mapping[str, Any]) -> None:
        """Takes that state back."""
        ...


def snapshot(variables: Mapping[str, tf.Variable], prefix: str) -> dict[str, np.ndarray]:
    """Host copies of ``variables`` under ``prefix`` plus their names."""
    return {prefix + name: _copied(variable) for name, variable in variables.items()}


def _copied(variable: tf.Variable) -> np.ndarray:
    """Its value in memory of its own: the variable's is overwritten by the next step.

    ``variable.numpy()`` gives the same by two operations and in a scope of their names, which for
    a small variable is most of the time.
    """
    here = copies_of(variable)[0]
    value = tf.raw_ops.ReadVariableOp(resource=here.handle, dtype=here.dtype)
    # This numpy() copies, also where the tensor is the variable's own memory; a scalar is no array.
    return np.asarray(value.numpy())


def optimizer_state(optimizer: tf_keras.optimizers.Optimizer) -> dict[str, tf.Variable]:
    """The optimizer's variables (slots, iterations, rate) by stable names."""
    return dict(zip(stable_names(optimizer.variables), optimizer.variables, strict=True))


def assign(
    variables: Mapping[str, tf.Variable], tensors: Mapping[str, np.ndarray], prefix: str
) -> None:
    """Gives ``variables`` the values that :func:`snapshot` took.

    Raises:
        TrainingError: a name, shape or dtype differs: values may change, never the model.
    """
    stored = {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
    missing, extra = sorted(set(variables) - stored), sorted(stored - set(variables))
    if missing or extra:
        raise TrainingError(
            "the checkpoint does not fit the model",
            got=f"not in the checkpoint: {missing or 'none'}; not in the model: {extra or 'none'}",
            allowed="the same variables in both",
            action="use the spec and the versions that the run was started with (harness diff)",
        )
    for name, variable in variables.items():
        value = tensors[prefix + name]
        same_shape = tuple(value.shape) == tuple(variable.shape)
        if not same_shape or value.dtype != variable.dtype.as_numpy_dtype:
            raise TrainingError(
                f"the checkpoint's {prefix}{name} does not fit the model",
                got=f"{value.dtype} {tuple(value.shape)}",
                allowed=f"{variable.dtype.name} {tuple(variable.shape)}",
                action="use the spec that the run was started with (harness diff)",
            )
    for name, variable in variables.items():
        assign_here(variable, tensors[prefix + name])


def not_finite(tensors: Mapping[str, np.ndarray], step: int, prefix: str = "") -> NotFinite | None:
    """The error that holds back weights with NaN or Inf: nothing broken is ever saved.

    Args:
        step: steps done; the last of them gave such a value.
        prefix: only tensors whose names begin with it are looked at.
    """
    for name, value in tensors.items():
        if not name.startswith(prefix) or not np.issubdtype(value.dtype, np.floating):
            continue
        if not np.isfinite(value).all():
            return NotFinite.at(max(0, step - 1), f"{name} at step {step}")
    return None


class Sums:
    """Metric sums of the present window (since the last line) and of the present epoch.

    The window grows on the device, step by step, whatever the calls are; the epoch is the sum
    of its windows, whose ends depend on the step alone.  So the figures are the same to the
    last bit however often a run is interrupted.
    """

    def __init__(self, steps: Steps, zeros: Mapping[str, np.ndarray]) -> None:
        self._steps = steps
        self._zeros = {name: np.array(zero, np.float64) for name, zero in zeros.items()}
        self.epoch = self._fresh()
        self._shown = (0.0, 0.0)

    def begin_epoch(self) -> None:
        """Forgets the epoch before."""
        self.epoch = self._fresh()

    def end_window(self) -> dict[str, np.ndarray]:
        """The sums of the window, which ends here; adds them to the epoch's."""
        window = self._steps.sums()
        for name, value in window.items():
            self.epoch[name] += value
        self._steps.set_sums(self._zeros)
        self._shown = (0.0, 0.0)
        return window

    def latest(self) -> tuple[float, float]:
        """Mean loss and number of examples since this was last asked."""
        loss, count = self._steps.progress()
        new_loss, new_count = loss - self._shown[0], count - self._shown[1]
        self._shown = (loss, count)
        return new_loss / new_count if new_count else float("nan"), new_count

    def tensors(self) -> dict[str, np.ndarray]:
        """For the checkpoint."""
        parts = {"window": self._steps.sums(), "epoch": self.epoch}
        # Copies: they are written while the sums go on.
        return {
            f"{SUMS}{part}/{name}": np.array(value)
            for part, sums in parts.items()
            for name, value in sums.items()
        }

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """From the checkpoint."""

        def part(of: str) -> dict[str, np.ndarray]:
            return {name: tensors[f"{SUMS}{of}/{name}"] for name in self._zeros}

        self._steps.set_sums(part("window"))
        self.epoch = {name: np.array(value, np.float64) for name, value in part("epoch").items()}
        self._shown = self._steps.progress()

    def share(self, distribution: Distribution) -> None:
        """Gives all ranks the sums of rank 0."""
        names, window = list(self._zeros), self._steps.sums()
        shared = distribution.share_arrays(
            [*(window[name] for name in names), *(self.epoch[name] for name in names)]
        )
        self._steps.set_sums(dict(zip(names, shared[: len(names)], strict=True)))
        self.epoch = dict(zip(names, shared[len(names) :], strict=True))
        self._shown = self._steps.progress()

    def _fresh(self) -> dict[str, np.ndarray]:
        return {name: zero.copy() for name, zero in self._zeros.items()}
