"""Several processes, each with its devices: TensorFlow's MultiWorkerMirroredStrategy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from harness.distribute.strategies import OfStrategy
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble
from harness.tracing import as_written


class MultiWorker(OfStrategy):
    """The :class:`~harness.distribute.base.Distribution` of the devices of several processes.

    To be made before TensorFlow has computed anything in this process.  Sums go over NCCL
    between GPUs, else over TensorFlow's own ring.

    Args:
        workers: ``host:port`` of every rank, on which its TensorFlow listens for the others.
        gpus: whether the replicas are GPUs.

    Raises:
        EnvironmentNotAble: TensorFlow is in use already, or the workers cannot be reached.
    """

    name = "multiworker"

    def __init__(self, workers: Sequence[str], topology: Topology, *, gpus: bool) -> None:
        kinds = tf.distribute.experimental.CommunicationImplementation
        options = tf.distribute.experimental.CommunicationOptions(
            implementation=kinds.NCCL if gpus else kinds.RING
        )
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(workers)}),
            task_type="worker",
            task_id=topology.rank,
            num_accelerators={"GPU": len(tf.config.get_visible_devices("GPU"))},
            rpc_layer="grpc",
        )
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
        except (RuntimeError, tf.errors.OpError) as error:
            raise EnvironmentNotAble(
                "MultiWorkerMirroredStrategy could not be started",
                got=str(error).strip().splitlines()[0][:300],
                allowed=f"{topology.size} workers that reach one another: {', '.join(workers[:8])}",
                action="see the log of each rank; a plug-in must not compute at its import",
            ) from error
        super().__init__(strategy, topology)

        @tf.function(reduce_retracing=True)
        @as_written
        def total(values: tf.Tensor) -> tf.Tensor:
            @as_written
            def mine(values: tf.Tensor) -> tf.Tensor:
                context = tf.distribute.get_replica_context()
                # The host's value once, whatever the number of its devices.
                once = context.replica_id_in_sync_group % self.local_replicas == 0
                value = tf.where(once, values, tf.zeros_like(values))
                return context.all_reduce(tf.distribute.ReduceOp.SUM, value)

            return self.run(mine, values)

        self._total = total

    def sum_ranks(self, values: np.ndarray) -> np.ndarray:
        # NCCL's kernels in TensorFlow know no int32.
        wide = values.astype(np.int64) if values.dtype == np.int32 else values
        return np.asarray(self._total(tf.constant(wide)).numpy()).astype(values.dtype)
