"""What the loop is given: the rooms below and beside it, each through a small protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tensorflow as tf
import tf_keras

from harness.distribute.base import Distribution
from harness.model.assemble import Assembled
from harness.spec import Duration
from harness.train.best import Best, EarlyStopping
from harness.train.callbacks import Callbacks
from harness.train.plan import Plan
from harness.train.plateau import Plateau
from harness.train.rollbacks import RollBacks
from harness.train.scaling import LossScale

if TYPE_CHECKING:
    pass


class TrainingData(Protocol):
    """Endless batches from any place, and the account of what could not be read."""

    def enter(self, phase: int, between: Callable[[], None], *, goes_on: bool = False) -> None:
        """Makes ready what a phase, by its index, reads; calls ``between`` about once a second.

        Args:
            goes_on: an attempt before has begun the phase.
        """
        ...

    def training(
        self, epoch: int, step: int, image_size: int | None, batch_size: int | None = None
    ) -> tf.data.Dataset:
        """Batches from step ``step`` of epoch ``epoch`` on, over all epochs."""
        ...

    def moved(self) -> bool:
        """Whether :meth:`training` has to be asked anew, as what its batches came from fails.  All
        ranks ask, between the same steps."""
        ...

    def check(self) -> None:
        """Raises DataError once more examples are unreadable than the spec allows."""
        ...


class RestoredState(Protocol):
    """A verified checkpoint in host memory."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        ...

    @property
    def tensors(self) -> Mapping[str, np.ndarray]:
        """Arrays by name."""
        ...

    @property
    def state(self) -> Mapping[str, Any]:
        """Plain JSON by name of its part."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures of the last validation."""
        ...


class Saver(Protocol):
    """Where checkpoints go; :meth:`restore` is asked by rank 0 only."""

    def save(
        self,
        step: int,
        tensors: Mapping[str, np.ndarray],
        state: dict[str, Any],
        *,
        metrics: Mapping[str, float] | None = None,
        keep_steps: Iterable[int] = (),
        then: Callable[[], None] = ...,
    ) -> None:
        """Begins to commit a checkpoint; calls ``then`` once it is there."""
        ...

    def check(self) -> None:
        """Raises what has become of the latest one, if that is known."""
        ...

    def settle(self) -> None:
        """Waits for it."""
        ...

    def restore(self, step: int | None = None) -> Any:
        """The newest one that verifies (or that of ``step``); None when there is none."""
        ...


class Writer(Protocol):
    """Where metrics go."""

    def scalars(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        split: str,
        epoch: int,
        phase: str,
        epoch_end: bool | None = None,
    ) -> None:
        """Figures as of ``step``, in epoch ``epoch`` (from 0)."""
        ...

    def rollback(self, step: int) -> None:
        """Takes back what was written of later steps."""
        ...

    def flush(self) -> None:
        """Brings everything to disk."""
        ...


class Watch(Protocol):
    """Whom the loop tells where it is: progress bar and heartbeat."""

    def continues(self, step: int) -> None:
        """A checkpoint was restored: this attempt begins behind ``step``."""
        ...

    def goes_back(self, step: int) -> None:
        """In the midst of this attempt the checkpoint of ``step`` is restored."""
        ...

    def phase(self, name: str, start: int, end: int) -> None:
        """A phase begins or goes on."""
        ...

    def update(
        self, step: int, *, phase: str, epoch: int, examples_per_s: float, loss: float
    ) -> None:
        """Some steps were done, the last of them in epoch ``epoch`` (from 0)."""
        ...

    def alive(self) -> None:
        """Nothing new, but the run lives; called about once a second where no steps are done."""
        ...

    def say(self, text: str) -> None:
        """A line for the user."""
        ...


class Stop(Protocol):
    """The wish to stop."""

    @property
    def requested(self) -> str | None:
        """Why the run should stop; None while it need not."""
        ...

    def stepped(self) -> None:
        """The first step of this attempt is done: from here on a stop saves."""
        ...


@dataclass
class Parts:
    """All that a :class:`~harness.train.loop.Trainer` works with."""

    plan: Plan
    examples: int
    """Examples of one step, over all replicas."""
    accumulate: int
    """Parts in which a replica computes its rows of them."""
    model: Assembled
    optimizer: tf_keras.optimizers.Optimizer
    distribution: Distribution
    data: TrainingData
    validate: Callable[[Callable[[], None], int], dict[str, float]] | None
    """Validation figures with the sizes of a phase, by its index; calls its first argument about
    once a second.  None: no validation set."""
    saver: Saver
    writer: Writer
    watch: Watch
    stop: Stop
    callbacks: Callbacks
    open: Callable[[], None]
    """Writes what a run shows once, before its first step."""
    improved: Callable[[Mapping[str, Any]], None]
    """Notes the best so far (:meth:`Best.to_json`), whose checkpoint is there."""
    kept: Callable[[int], bool]
    """Whether the checkpoint of a step is still there; asked by rank 0 only."""
    not_exact: Callable[[list[str]], None]
    """Hears why a resumed run would not repeat an undisturbed one to the last bit."""
    scaling: LossScale | None
    """Where gradients would be too small for the number format; None: nothing is scaled."""
    jit_compile: bool
    """Whether XLA compiles the forward and the backward pass."""
    watched: Callable[[str], AbstractContextManager[None]]
    """Put around every call that steps, with the name of its phase."""
    best: Best
    early: EarlyStopping | None
    plateau: Plateau | None
    rollbacks: RollBacks
    log_every: Duration
    save_every: Duration
