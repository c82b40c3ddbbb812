"""From ``cluster.strategy`` and the topology to the name of a distribution.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble


@dataclass(frozen=True)
class HorovodState:
    """Whether Horovod can be used by this process.

    ``missing`` says why not, None if it can.  ``action`` is how to get it.
    """

    missing: str | None
    action: str


class Pick(NamedTuple):
    """The name of a distribution and, in words, why it is this one."""

    name: str
    why: str


def pick(strategy: str, topology: Topology, horovod: HorovodState, devices: int) -> Pick:
    """Which distribution it is to be.

    Args:
        strategy: of the spec.
        devices: those of this rank that compute.

    Raises:
        EnvironmentNotAble: the strategy does not fit the ranks and devices.
    """
    size, by = topology.size, topology.source
    started = "one process" if size == 1 else f"{size} ranks by {by}"
    if size == 1 and strategy == "multiworker":
        raise _unfit(
            "cluster.strategy is multiworker and there is one rank",
            "one process",
            "two ranks or more",
            "set cluster.nodes or cluster.ranks_per_node, or cluster.strategy: auto",
        )
    if size > 1 and strategy in ("single", "mirrored"):
        raise _unfit(
            f"cluster.strategy is {strategy}, which is for one process",
            started,
            "horovod, multiworker or auto with several ranks",
            "start one process, or set cluster.strategy: auto",
        )
    if strategy == "horovod" or (strategy == "auto" and size > 1):
        if horovod.missing is None:
            word = "asked for" if strategy == "horovod" else "Horovod is installed"
            return Pick("horovod", f"{started}, {word}")
        if strategy == "horovod":
            raise EnvironmentNotAble(
                "cluster.strategy is horovod, and Horovod cannot be used",
                got=horovod.missing,
                action=horovod.action,
            )
        return Pick("multiworker", f"{started}, {horovod.missing} ({horovod.action})")
    if strategy == "multiworker":
        return Pick("multiworker", f"{started}, asked for")
    return Pick("mirrored" if devices > 1 else "single", "")


def check_replicas_per_rank(name: str, kind: str, wanted: int | None) -> None:
    """Holds ``cluster.replicas_per_rank`` against a distribution of several ranks.

    Raises:
        EnvironmentNotAble: it cannot feed so many devices from one process.
    """
    if wanted in (None, 1) or (name == "multiworker" and kind == "GPU"):
        return
    raise _unfit(
        f"a rank of {name} on the {kind} computes on one device",
        f"cluster.replicas_per_rank: {wanted}",
        "1",
        "use cluster.ranks_per_node instead",
    )


def check_meeting(name: str, topology: Topology) -> None:
    """Holds that the ranks can find one another.

    Raises:
        EnvironmentNotAble: nobody tells where the other nodes are.
    """
    told = topology.source in ("srun", "submitit", "TF_CONFIG") or topology.nodes == 1
    if name == "multiworker" and not told:
        raise _unfit(
            "MultiWorkerMirroredStrategy needs to know where its workers are",
            f"{topology.nodes} nodes by {topology.source}",
            "srun, or TF_CONFIG in the environment of each rank",
            "start the ranks with srun, or set cluster.strategy: horovod",
        )


def _unfit(what: str, got: str, allowed: str, action: str) -> EnvironmentNotAble:
    return EnvironmentNotAble(what, got=got, allowed=allowed, action=action)


MULTI_RANK = ("horovod", "multiworker")
"""Distributions of several ranks."""
