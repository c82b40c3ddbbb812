"""Which steps a run does: by its precision, and by who compiles them."""

from __future__ import annotations

from harness.train.compiled import CompiledSteps
from harness.train.parts import Parts
from harness.train.scaling import ScaledSteps
from harness.train.step import Steps


def make_steps(parts: Parts) -> Steps:
    """The steps that ``parts`` ask for."""
    given = (parts.model, parts.optimizer, parts.distribution, parts.examples, parts.accumulate)
    if parts.scaling is None:
        return CompiledSteps(*given) if parts.jit_compile else Steps(*given)
    kind = CompiledScaledSteps if parts.jit_compile else ScaledSteps
    return kind(*given, scaling=parts.scaling)


class CompiledScaledSteps(CompiledSteps, ScaledSteps):
    """Both: XLA compiles what a replica computes, and what follows may be skipped."""
