"""What the present process computes on, from the spec and what the process was given."""

from __future__ import annotations

from collections.abc import Mapping

from harness.distribute.asked import check_started
from harness.distribute.choose import Choice, choose
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
