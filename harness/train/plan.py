"""From phases in epochs to phases in steps.  Pure, and free of TensorFlow: ``plan`` prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.spec import Spec
    from harness.spec.models_training import LearningRates


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

    @property
    def steps(self) -> int:
        """Steps of the whole phase."""
        return self.epochs * self.steps_per_epoch


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


def _one_rate(rate: float | LearningRates) -> float:
    # The spec refuses rates by part for as long as only the head is trained.
    if not isinstance(rate, float):
        raise ValueError(f"a phase of the head has one learning rate, had {rate}")
    return rate


def make_plan(spec: Spec, steps_per_epoch: int, replicas: int = 1) -> Plan:
    """The plan of ``spec`` on data that gives ``steps_per_epoch`` global batches an epoch."""
    training = spec.training
    phases = []
    for index, phase in enumerate(training.phases):
        steps = phase.epochs * steps_per_epoch
        warmup = training.schedule.warmup
        phases.append(
            Phase(
                index=index,
                name=phase.name,
                epochs=phase.epochs,
                steps_per_epoch=steps_per_epoch,
                image_size=phase.image_size or spec.data.image_size,
                learning_rate=scaled_rate(
                    _one_rate(phase.learning_rate), training.scale_learning_rate, replicas
                ),
                warmup_steps=warmup.steps(steps_per_epoch, steps) if warmup else 0,
                schedule=training.schedule.name,
                start_from=phase.start_from,
            )
        )
    return Plan(tuple(phases))
