"""One process, several devices: TensorFlow's MirroredStrategy behind our interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from harness.distribute.topology import Topology


class Mirrored:
    """The :class:`~harness.distribute.base.Distribution` of the devices of one process.

    Every variable has a copy on each device, kept equal since each of them applies the same
    summed gradients.

    Args:
        devices: TensorFlow device names (``/GPU:0``, ``/GPU:1``), two or more.
    """

    name = "mirrored"

    def __init__(self, devices: Sequence[str], topology: Topology | None = None) -> None:
        self.topology = topology or Topology()
        self.replicas = self.local_replicas = len(devices)
        self._strategy = tf.distribute.MirroredStrategy(list(devices))

    def scope(self) -> AbstractContextManager[Any]:
        return self._strategy.scope()

    def share(self, dataset: tf.data.Dataset) -> Any:
        """See the protocol.

        A strategy deals the elements of a dataset out to its replicas in turn, so each batch is
        cut into as many, and the next piece is on its device before it is asked for.
        """
        pieces = self.local_replicas

        def cut(batch: dict[str, tf.Tensor]) -> tf.data.Dataset:
            def rows(tensor: tf.Tensor) -> tf.Tensor:
                shape = tensor.shape.as_list()
                return tf.reshape(tensor, [pieces, shape[0] // pieces, *shape[1:]])

            return tf.data.Dataset.from_tensor_slices({k: rows(v) for k, v in batch.items()})

        cut_up = dataset.flat_map(cut)
        return self._strategy.distribute_datasets_from_function(lambda context: cut_up)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        results = self._strategy.run(function, args=arguments)
        local = self._strategy.experimental_local_results
        return tf.nest.map_structure(lambda each: local(each)[0], results)

    def replica(self) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return tf.cast(context.replica_id_in_sync_group, tf.int32)

    def reduce_sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors)))

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """One process: its copies are equal from their making."""

    def barrier(self) -> None:
        """One process: it is here."""

    def agree(self, flag: bool) -> bool:
        return flag
