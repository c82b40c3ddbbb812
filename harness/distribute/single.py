"""One process, one device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from harness.distribute.topology import Topology


class SingleDevice:
    """The :class:`~harness.distribute.base.Distribution` of one replica: nothing to reduce.

    Args:
        device: TensorFlow device name (``/CPU:0``, ``/GPU:0``) that variables and steps use.
    """

    name = "single"
    replicas = 1
    local_replicas = 1

    def __init__(self, device: str = "/CPU:0", topology: Topology | None = None) -> None:
        self.device = device
        self.topology = topology or Topology()

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

    def replica(self) -> tf.Tensor:
        return tf.constant(0, tf.int32)

    def reduce_sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return list(tensors)

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """One rank: it has its own values already."""

    def barrier(self) -> None:
        """One rank: it is here."""

    def agree(self, flag: bool) -> bool:
        return flag
