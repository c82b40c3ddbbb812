"""From phases in epochs to phases in steps.  Pure, and free of TensorFlow: ``plan`` prints it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.spec import Spec
    from harness.spec.models_phases import LearningRates


DROP_FACTOR = 0.1
"""What a rate is multiplied by where the spec does not say it; Keras' own choice."""


@dataclass(frozen=True)
class Phase:
    """One part of training, with everything in steps.

    ``start`` and ``end`` count optimizer steps as planned; an early stop ends a phase sooner.
    """

    index: int
    name: str
    epochs: int
    steps_per_epoch: int
    image_size: int | None
    learning_rate: float
    warmup_steps: int
    schedule: str
    start_from: str
    unfreeze: str = "none"
    backbone_rate: float | None = None
    decay_per_block: float = 1.0
    backbone_mode: str = "inference"
    optimizer_state: str = "keep"
    batch_size: int | None = None
    drop_steps: int = 0
    drop_factor: float = DROP_FACTOR

    @property
    def steps(self) -> int:
        """Steps of the whole phase."""
        return self.epochs * self.steps_per_epoch

    def factor(self, distance: int) -> float:
        """The rate of a block of the backbone, as a multiple of :attr:`learning_rate`.

        Args:
            distance: blocks between it and the head; 0 is the last one.
        """
        if self.backbone_rate is None:
            return 1.0
        return self.backbone_rate / self.learning_rate * self.decay_per_block**distance


@dataclass(frozen=True)
class Plan:
    """All phases of a run."""

    phases: tuple[Phase, ...]

    @property
    def total_steps(self) -> int:
        """Steps of the whole run when no phase stops early."""
        return sum(phase.steps for phase in self.phases)

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run when no phase stops early."""
        return sum(phase.epochs for phase in self.phases)


def scaled_rate(rate: float, rule: str, replicas: int) -> float:
    """The learning rate for ``replicas`` replicas.

    ``linear`` multiplies by the number of replicas (Goyal et al., 2017), ``sqrt`` by its square
    root (Krizhevsky, 2014), ``none`` leaves it.

    Raises:
        ValueError: unknown rule.
    """
    if rule == "none":
        return rate
    if rule == "linear":
        return rate * replicas
    if rule == "sqrt":
        return rate * float(replicas) ** 0.5
    raise ValueError(f"scale_learning_rate must be none, linear or sqrt, was {rule!r}")


def _rates(rate: float | LearningRates) -> tuple[float, float | None, float]:
    """Of the head, of the backbone's last block (None: the same), and from block to block."""
    if isinstance(rate, float):
        return rate, None, 1.0
    return rate.head, rate.backbone, rate.decay_per_block


def make_plan(spec: Spec, steps_of: Callable[[int], int], replicas: int = 1) -> Plan:
    """The plan of ``spec``.

    Args:
        steps_of: steps of an epoch with batches of so many examples.
    """
    training = spec.training
    phases = []
    for index, phase in enumerate(training.phases):
        batch_size = phase.batch_size or training.batch_size
        steps_per_epoch = steps_of(batch_size)
        steps = phase.epochs * steps_per_epoch
        warmup, every = training.schedule.warmup, training.schedule.every
        head, backbone, decay = _rates(phase.learning_rate)
        rule = training.scale_learning_rate
        phases.append(
            Phase(
                index=index,
                name=phase.name,
                epochs=phase.epochs,
                steps_per_epoch=steps_per_epoch,
                image_size=spec.image_size_of(index),
                learning_rate=scaled_rate(head, rule, replicas),
                warmup_steps=warmup.steps(steps_per_epoch, steps) if warmup else 0,
                schedule=training.schedule.name,
                start_from=phase.start_from,
                unfreeze=phase.unfreeze,
                backbone_rate=backbone and scaled_rate(backbone, rule, replicas),
                decay_per_block=decay,
                backbone_mode=phase.backbone_mode,
                optimizer_state=phase.optimizer_state,
                batch_size=batch_size,
                drop_steps=every.steps(steps_per_epoch, steps) if every else 0,
                drop_factor=training.schedule.factor or DROP_FACTOR,
            )
        )
    return Plan(tuple(phases))
