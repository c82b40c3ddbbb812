"""From ``cluster.strategy``, ``cluster.device`` and the topology to a distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.distribute import devices as found
from harness.distribute.base import Distribution
from harness.distribute.mirrored import Mirrored
from harness.distribute.single import SingleDevice
from harness.distribute.strategy import HorovodState, check_meeting, check_replicas_per_rank, pick
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble


class Choice(NamedTuple):
    """A distribution and, in words, why it is this one."""

    distribution: Distribution
    why: str


def _nobody(*of: Any) -> Any:
    raise EnvironmentNotAble(
        "several ranks were started, and nothing here brings them together",
        allowed="one process",
        action="use harness run or harness submit",
    )


_NOT_LOOKED_FOR = HorovodState("it was not looked for", "use harness run")


@dataclass(frozen=True)
class Links:
    """How the ranks reach one another; asked for only by those that need it."""

    horovod: HorovodState = _NOT_LOOKED_FOR
    start_horovod: Callable[[bool], Any] = _nobody
    """Gives Horovod's operations, for ranks that compute on GPUs or for others."""
    workers: Callable[[], Sequence[str]] = _nobody
    """``host:port`` of every rank's TensorFlow."""


def choose(
    strategy: str,
    device: str,
    topology: Topology,
    *,
    replicas: int | None = None,
    gpus: int | None = None,
    links: Links | None = None,
) -> Choice:
    """Picks the distribution for this process, which has computed nothing yet.

    Args:
        strategy: ``auto``, ``single``, ``mirrored``, ``multiworker`` or ``horovod``.
        device: ``auto`` takes GPUs when TensorFlow sees some, ``gpu`` insists on them, ``cpu``
            hides them.
        replicas: devices that compute in this process; None is all that are its own.  With ``cpu``
            the cores are shared by so many logical devices.
        gpus: GPUs that this process was to get; fewer are an error, except with ``cpu``.

    Raises:
        EnvironmentNotAble: strategy, ranks and devices do not fit one another.
    """
    links = links or Links()
    several = pick(strategy, topology, links.horovod, replicas or 1)
    if several.name in ("horovod", "multiworker"):
        return _of_ranks(several.name, several.why, device, topology, replicas, gpus or 0, links)
    seen = found.cpus(replicas or 1) if device == "cpu" else _gpus(device, gpus or 0, topology)
    kind = "CPU" if device == "cpu" or not seen else "GPU"
    if not seen:
        seen = found.cpus(replicas or 1)
    wanted = 1 if strategy == "single" and replicas is None else replicas or len(seen)
    _check_count(strategy, kind, wanted, len(seen))
    if wanted == 1:
        return Choice(SingleDevice(seen[0], topology), _why_one(kind, len(seen)))
    why = f"one process, {wanted} of {len(seen)} {kind}s mirrored (strategy: {strategy})"
    return Choice(Mirrored(seen[:wanted], topology), why)


def _gpus(device: str, asked: int, topology: Topology) -> list[str]:
    return found.gpus(device, asked, topology, None)


def _of_ranks(
    name: str,
    why: str,
    device: str,
    topology: Topology,
    replicas: int | None,
    gpus: int,
    links: Links,
) -> Choice:
    """A distribution over several ranks."""
    each = 1 if name == "horovod" else replicas
    seen = [] if device == "cpu" else found.gpus(device, gpus, topology, each)
    kind = "GPU" if seen else "CPU"
    check_replicas_per_rank(name, kind, replicas)
    check_meeting(name, topology)
    if not seen:
        seen = found.cpus(1)
    if name == "horovod":
        from harness.distribute.horovod import Horovod

        if len(seen) > 1:
            raise EnvironmentNotAble(
                "a rank of Horovod computes on one GPU",
                got=f"{len(seen)} GPUs for each rank",
                allowed="as many ranks on a node as GPUs",
                action="set cluster.ranks_per_node to cluster.gpus_per_node, or "
                "cluster.strategy: multiworker",
            )
        ops = links.start_horovod(kind == "GPU")
        return Choice(Horovod(seen[0], topology, ops), f"{why}, one {kind} each")
    from harness.distribute.multiworker import MultiWorker

    workers = links.workers()
    return Choice(
        MultiWorker(workers, topology, gpus=kind == "GPU"), f"{why}, {len(seen)} {kind} each"
    )


def _check_count(strategy: str, kind: str, wanted: int, seen: int) -> None:
    """Holds the number of replicas against strategy and devices."""
    if wanted > seen:
        raise EnvironmentNotAble(
            f"there are fewer {kind}s than replicas",
            got=f"{seen} {kind}{'' if seen == 1 else 's'}",
            allowed=f"cluster.replicas_per_rank up to {seen}",
            action="ask for more GPUs with cluster.gpus_per_node, or lower replicas_per_rank",
        )
    if strategy == "mirrored" and wanted == 1:
        raise EnvironmentNotAble(
            "cluster.strategy is mirrored and there is one device to compute on",
            got=f"{seen} {kind}{'' if seen == 1 else 's'}",
            allowed="two devices or more",
            action="set cluster.gpus_per_node to 2 or more, or cluster.strategy: single",
        )
    if strategy == "single" and wanted > 1:
        raise EnvironmentNotAble(
            "cluster.strategy is single, which computes on one device",
            got=f"cluster.replicas_per_rank: {wanted}",
            action="set cluster.strategy: mirrored, or leave out replicas_per_rank",
        )


def _why_one(kind: str, seen: int) -> str:
    if kind == "CPU":
        return "one process, no GPU in use"
    return "one process, one GPU" if seen == 1 else f"one process, the first of {seen} GPUs"
