"""What the present process computes on, from the spec and what the process was given."""

from __future__ import annotations

import os
from collections.abc import Mapping

import tensorflow as tf

from harness.distribute.asked import check_started
from harness.distribute.choose import Choice, choose
from harness.distribute.threads import threads_of
from harness.spec import Spec
from harness.worker.links import check_not_shared, links_of
from harness.worker.ranks import Ranks


def choose_devices(spec: Spec, environment: Mapping[str, str], ranks: Ranks) -> Choice:
    """The distribution that ``cluster`` asks for, in the place that the launcher gave us.

    Raises:
        EnvironmentNotAble: the devices or the ranks are not what was asked for.
    """
    cluster = spec.cluster
    check_started(cluster, ranks.topology)
    cores = len(os.sched_getaffinity(0))
    threads = threads_of(ranks.topology, environment, cores, os.cpu_count() or cores)
    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    if cluster.device != "cpu":
        check_not_shared(ranks, cluster.gpus_per_node)
    return choose(
        cluster.strategy,
        cluster.device,
        ranks.topology,
        replicas=cluster.replicas_per_rank,
        gpus=(cluster.gpus_per_node or 0) // ranks.topology.local_size,
        links=links_of(ranks, environment),
    )
