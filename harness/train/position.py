"""Where a run stands: the part of its state from which everything else follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.train.plan import Phase


@dataclass(frozen=True)
class Position:
    """A place between two steps.

    Args:
        step: optimizer steps done, over all phases.
        phase: index of the present phase.
        phase_step: steps done in the present phase.
        epoch: epochs completed before the present phase began; the order of examples goes by
            ``epoch + phase_step // steps_per_epoch``, so no two phases see the same order.
        validated: the epoch that ends at this place has been validated.
    """

    step: int = 0
    phase: int = 0
    phase_step: int = 0
    epoch: int = 0
    validated: bool = True

    def forward(self, steps: int, phase: Phase) -> Position:
        """The place ``steps`` steps later, which must not lie past the end of the epoch."""
        done = self.phase_step + steps
        ends = done % phase.steps_per_epoch == 0
        return replace(self, step=self.step + steps, phase_step=done, validated=not ends)

    def last_epoch(self, phase: Phase) -> int:
        """Index, from 0 over the whole run, of the epoch that the last step belongs to."""
        return self.epoch + max(self.phase_step - 1, 0) // phase.steps_per_epoch

    def before_validation(self) -> Position:
        """The same place, where the epoch is to end now, whole or not."""
        return replace(self, validated=False)

    def after_validation(self) -> Position:
        """The same place once the epoch that ends there has been validated."""
        return replace(self, validated=True)

    def next_phase(self, phase: Phase) -> Position:
        """The beginning of the phase after ``phase``, wherever that one was left."""
        return replace(
            self,
            phase=self.phase + 1,
            phase_step=0,
            # A part of an epoch counts as one: no later phase may see its order again.
            epoch=self.epoch + -(-self.phase_step // phase.steps_per_epoch),
            validated=True,
        )

    def epoch_of(self, phase: Phase) -> int:
        """Index, from 0 over the whole run, of the epoch that the next step belongs to."""
        return self.epoch + self.phase_step // phase.steps_per_epoch

    def epoch_step(self, phase: Phase) -> int:
        """Steps done of that epoch."""
        return self.phase_step % phase.steps_per_epoch

    def left_in_epoch(self, phase: Phase) -> int:
        """Steps until the epoch ends, at least 1."""
        return phase.steps_per_epoch - self.epoch_step(phase)

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint's state."""
        return asdict(self)

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Position:
        """From the checkpoint's state."""
        return cls(**state)
