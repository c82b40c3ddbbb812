"""One process, one device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from harness.distribute.heap import hold_pages, undo_mapping
from harness.distribute.together import Together
from harness.distribute.topology import Topology

AHEAD = 2
"""Batches on a device before they are asked for: one is copied while another is computed on."""


class OneDevice(Together):
    """What a process with one device does the same way however many processes there are.

    Args:
        device: TensorFlow device name (``/CPU:0``, ``/GPU:0``) that variables and steps use.
    """

    local_replicas = 1

    def __init__(self, device: str = "/CPU:0", topology: Topology | None = None) -> None:
        self.device = device
        self.topology = topology or Topology()
        # A step on the host's first CPU finds the batches where they are made.
        self._on_host = device.endswith("CPU:0")
        if self._on_host:
            hold_pages()
        else:
            undo_mapping()

    def scope(self) -> AbstractContextManager[Any]:
        if self._on_host:
            # Naming the CPU would pin every op of a SavedModel to it and gain nothing.
            return contextlib.nullcontext()
        return tf.device(self.device)

    def share(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """See the protocol.

        The next batches are copied to the device while it computes; but texts, of which there is
        little to copy, are for operations of the host.
        """
        texts = any(each.dtype == tf.string for each in tf.nest.flatten(dataset.element_spec))
        if self._on_host or texts:
            return dataset
        return dataset.apply(tf.data.experimental.prefetch_to_device(self.device, AHEAD))

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self.scope():
            return function(*arguments)

    run_sums = run_each = run


class SingleDevice(OneDevice):
    """The :class:`~harness.distribute.base.Distribution` of one replica: nothing to reduce."""

    name = "single"
    replicas = 1

    def replica(self) -> tf.Tensor:
        return tf.constant(0, tf.int32)

    def reduce_sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return list(tensors)
