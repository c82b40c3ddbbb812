"""What the present process computes on, from the spec and what the process was given."""

from __future__ import annotations

from collections.abc import Mapping

from harness.distribute.choose import Choice, choose
from harness.distribute.topology import Topology
from harness.spec import Spec


def choose_devices(spec: Spec, environment: Mapping[str, str]) -> Choice:
    """The distribution that ``cluster`` asks for, in the place that the launcher gave us.

    Raises:
        EnvironmentNotAble: the devices or the ranks are not what was asked for.
    """
    cluster = spec.cluster
    return choose(
        cluster.strategy,
        cluster.device,
        Topology.from_environment(environment),
        replicas=cluster.replicas_per_rank,
        gpus=(cluster.gpus_per_node or 0) // (cluster.ranks_per_node or 1),
    )
