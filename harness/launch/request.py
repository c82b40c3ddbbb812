"""What a spec asks of the scheduler, worked out from spec and site.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.data.lanes import check_replicas, lane_count
from harness.distribute.asked import check_asked, ranks_per_node, replicas_of
from harness.distribute.units import asked_kind, check_kind
from harness.spec import Resolved, Site, Spec
from harness.spec.models_cluster import seconds_of

LEAD_S = 120
"""Seconds before the time limit at which a run is asked to stop, where nobody says otherwise."""
CPUS_PER_RANK = 4
"""CPU cores of a rank where neither spec nor site tells: reading and decoding need some."""


@dataclass(frozen=True)
class Request:
    """One job: what it needs, and how it goes on.

    Times are seconds; None leaves a value to the partition.  ``cpus_why`` says in words where the
    number of CPU cores comes from.
    """

    name: str
    nodes: int = 1
    ranks_per_node: int = 1
    cpus_per_rank: int = CPUS_PER_RANK
    cpus_why: str = "default"
    gpus_per_node: int = 0
    gpu_type: str | None = None
    gres: str = "gpu"
    mem_gb: int | None = None
    time_s: int | None = None
    time_floor_s: int | None = None
    lead_s: int = LEAD_S
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    continue_by: str = "requeue"
    max_attempts: int = 20
    more: Mapping[str, str | int | bool] = field(default_factory=dict)

    @property
    def ranks(self) -> int:
        """Processes in all."""
        return self.nodes * self.ranks_per_node

    @property
    def cpus_per_node(self) -> int:
        """CPU cores on each node."""
        return self.ranks_per_node * self.cpus_per_rank


def make_request(resolved: Resolved) -> Request:
    """The job that a spec asks for at its site.

    Raises:
        EnvironmentNotAble: its strategy, ranks and GPUs, or precision and device, cannot go
            together.
    """
    spec, site = resolved.spec, resolved.site
    cluster = spec.cluster
    check_asked(cluster)
    if (kind := asked_kind(cluster)) is not None:
        check_kind(spec.training.precision, kind)
    ranks = ranks_per_node(cluster)
    cpus, why = _cpus_per_rank(spec, site, ranks)
    time_s = None if cluster.time is None else seconds_of(cluster.time)
    floor_s = None if cluster.time_floor is None else seconds_of(cluster.time_floor)
    return Request(
        spec.name,
        nodes=cluster.nodes,
        ranks_per_node=ranks,
        cpus_per_rank=cpus,
        cpus_why=why,
        gpus_per_node=cluster.gpus_per_node or 0,
        gpu_type=cluster.gpu_type,
        gres=site.gres,
        mem_gb=cluster.mem_gb,
        time_s=time_s,
        time_floor_s=floor_s,
        lead_s=cluster.signal_lead_s or default_lead_s(floor_s or time_s),
        partition=cluster.partition,
        account=cluster.account,
        qos=cluster.qos,
        constraint=cluster.constraint,
        continue_by=cluster.continue_by,
        max_attempts=cluster.max_attempts,
        more=dict(cluster.sbatch),
    )


def default_lead_s(limit_s: int | None) -> int:
    """120 s, or a quarter of a short time limit, so that most of it is left for training."""
    return LEAD_S if limit_s is None else min(LEAD_S, max(10, limit_s // 4))


def _cpus_per_rank(spec: Spec, site: Site, ranks_per_node: int) -> tuple[int, str]:
    """The spec's own number; else the fair share of a node by its GPUs; else a few."""
    cluster = spec.cluster
    if cluster.cpus_per_rank is not None:
        return cluster.cpus_per_rank, "cluster.cpus_per_rank"
    gpus = cluster.gpus_per_node or 0
    if cluster.cpus_per_gpu is not None:
        return max(1, cluster.cpus_per_gpu * gpus // ranks_per_node), "cluster.cpus_per_gpu"
    known = site.partitions.get(cluster.partition or "")
    if known is not None and known.cpus_per_node and known.gpus_per_node and gpus:
        share = known.cpus_per_node * gpus // known.gpus_per_node
        return max(1, share // ranks_per_node), f"the GPUs' share of a node of {site.name}"
    if known is not None and known.cpus_per_node:
        return min(CPUS_PER_RANK, known.cpus_per_node), "default"
    return CPUS_PER_RANK, "default"


def checked_lanes(spec: Spec) -> int:
    """The lanes of a run, which its replicas share evenly.

    Raises:
        SpecError: ``data.lanes`` does not fit the batch.
        EnvironmentNotAble: the replicas cannot share them; names numbers that fit.
    """
    lanes, parts = [], spec.training.accumulate
    for named, batch in spec.batch_sizes().items():
        lanes.append(lane_count(batch * parts, spec.data.lanes))
        check_replicas(lanes[-1], replicas_of(spec.cluster), batch * parts, parts, named)
    return lanes[0]
