"""One process, one device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from harness.distribute.heap import hold_pages
from harness.distribute.together import Together
from harness.distribute.topology import Topology


class OneDevice(Together):
    """What a process with one device does the same way however many processes there are.

    Args:
        device: TensorFlow device name (``/CPU:0``, ``/GPU:0``) that variables and steps use.
    """

    local_replicas = 1

    def __init__(self, device: str = "/CPU:0", topology: Topology | None = None) -> None:
        self.device = device
        self.topology = topology or Topology()
        if device.endswith("CPU:0"):
            hold_pages()

    def scope(self) -> AbstractContextManager[Any]:
        if self.device.endswith("CPU:0"):
            # Naming the CPU would pin every op of a SavedModel to it and gain nothing.
            return contextlib.nullcontext()
        return tf.device(self.device)

    def share(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self.scope():
            return function(*arguments)

    run_sums = run


class SingleDevice(OneDevice):
    """The :class:`~harness.distribute.base.Distribution` of one replica: nothing to reduce."""

    name = "single"
    replicas = 1

    def replica(self) -> tf.Tensor:
        return tf.constant(0, tf.int32)

    def reduce_sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return list(tensors)
