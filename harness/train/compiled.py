"""Steps whose forward and backward pass XLA compiles."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from harness.tracing import as_written
from harness.train.plan import Phase
from harness.train.step import Batch, Steps


class CompiledSteps(Steps):
    """``training.jit_compile``: a replica's rows go through one program of XLA's.

    What follows stays TensorFlow's: the sum over the replicas, which XLA has no operations for
    between processes, and the optimizer, whose update of a small head gains nothing.
    """

    def compile(self, phase: Phase) -> Any:
        # Anew for each phase: it trains other variables.
        self._program = tf.function(self._traced, jit_compile=True)
        return super().compile(phase)

    def _values(self, batch: Batch, part: int | tf.Tensor) -> list[tf.Tensor]:
        # XLA reads no variable of another device, and the counter of steps is on the CPU.
        return list(self._program(batch, tf.convert_to_tensor(part), tf.identity(self.step)))

    @as_written
    def _traced(self, batch: Batch, part: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
        draws = self._model.draws
        draws.now = step
        try:
            return Steps._values(self, batch, part)
        finally:
            draws.now = None
