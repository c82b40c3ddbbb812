"""Strategies of ``tf.distribute`` behind our interface: what mirrored and multiworker share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from harness.distribute.buckets import buckets_of
from harness.distribute.heap import undo_mapping
from harness.distribute.together import Together
from harness.distribute.topology import Topology
from harness.tracing import as_written


class OfStrategy(Together):
    """A :class:`~harness.distribute.base.Distribution` over a ``tf.distribute.Strategy``.

    Every variable has a copy on each device, kept equal since each of them applies the same
    summed gradients.
    """

    def __init__(self, strategy: tf.distribute.Strategy, topology: Topology) -> None:
        self.topology = topology
        self._strategy = strategy
        self.replicas = int(strategy.num_replicas_in_sync)
        self.local_replicas = self.replicas // topology.size
        undo_mapping()

    def scope(self) -> AbstractContextManager[Any]:
        return self._strategy.scope()

    def share(self, dataset: tf.data.Dataset) -> Any:
        """See the protocol.

        A strategy deals the elements of a dataset out to its replicas in turn, so each batch is
        cut into as many, and the next piece is on its device before it is asked for.
        """
        pieces = self.local_replicas

        @as_written
        def cut(batch: dict[str, tf.Tensor]) -> tf.data.Dataset:
            @as_written
            def rows(tensor: tf.Tensor) -> tf.Tensor:
                shape = tensor.shape.as_list()
                return tf.reshape(tensor, [pieces, shape[0] // pieces, *shape[1:]])

            return tf.data.Dataset.from_tensor_slices({k: rows(v) for k, v in batch.items()})

        mine = dataset.flat_map(cut) if pieces > 1 else dataset
        return self._strategy.distribute_datasets_from_function(lambda context: mine)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        results = self._strategy.run(function, args=arguments)
        return tf.nest.map_structure(lambda each: self._local(each)[0], results)

    def run_each(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._strategy.run(function, args=arguments)

    def run_sums(self, function: Callable[..., Any], *arguments: Any) -> Any:
        results = self._strategy.run(function, args=arguments)
        return tf.nest.map_structure(lambda each: tf.add_n(self._local(each)), results)

    def replica(self) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return tf.cast(context.replica_id_in_sync_group, tf.int32)

    def reduce_sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        # Left to itself TensorFlow would put tensors of several dtypes into one sum, and fail.
        context = tf.distribute.get_replica_context()
        # What was read from a variable has no device, by which TensorFlow finds where a sum goes.
        tensors = [tf.identity(tensor) for tensor in tensors]
        summed: dict[int, tf.Tensor] = {}
        for bucket in buckets_of(tensors):
            some = [tensors[index] for index in bucket]
            summed |= zip(bucket, context.all_reduce(tf.distribute.ReduceOp.SUM, some), strict=True)
        return [summed[index] for index in range(len(tensors))]

    def _local(self, value: Any) -> tuple[Any, ...]:
        return tuple(self._strategy.experimental_local_results(value))
