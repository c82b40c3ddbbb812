"""Several processes with one device each: Horovod's low-level operations.

Only sums are used.  ``horovod.keras`` and ``DistributedOptimizer`` group what happens to be ready,
so their sums differ from run to run; fixed buckets, each one vector that is never joined with
another, overlap with the backward pass and give the same bits every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from harness.distribute.buckets import bucket_bytes, buckets_of, joined, parted
from harness.distribute.single import OneDevice
from harness.distribute.topology import Topology


class Horovod(OneDevice):
    """The :class:`~harness.distribute.base.Distribution` of one replica in each rank.

    Args:
        device: TensorFlow device name of this rank's replica.
        ops: ``horovod.tensorflow.mpi_ops``, initialised (see :mod:`harness.distribute.rendezvous`).
    """

    name = "horovod"

    def __init__(self, device: str, topology: Topology, ops: Any) -> None:
        super().__init__(device, topology)
        self.replicas = topology.size
        self._ops = ops
        self._reductions = 0
        self._most = bucket_bytes(topology.size, gpus="GPU" in device)

    def replica(self) -> tf.Tensor:
        return tf.constant(self.topology.rank, tf.int32)

    def reduce_sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """See the protocol.  All ranks trace the same calls in the same order."""
        tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
        # Ranks find one another's tensors by name, so it must not hang on anything local.
        number, self._reductions = self._reductions, self._reductions + 1
        summed: dict[int, tf.Tensor] = {}
        for at, bucket in enumerate(buckets_of(tensors, self._most)):
            some = [tensors[index] for index in bucket]
            total = self._ops._allreduce(joined(some), name=f"harness_sum_{number}_{at}")
            summed |= zip(bucket, parted(total, some), strict=True)
        return [
            tf.ensure_shape(summed[index], tensor.shape) for index, tensor in enumerate(tensors)
        ]

    def sum_ranks(self, values: np.ndarray) -> np.ndarray:
        with tf.device("/CPU:0"):
            total = self._ops._allreduce(tf.constant(values), name="harness_sum_ranks")
        return np.asarray(total.numpy())
