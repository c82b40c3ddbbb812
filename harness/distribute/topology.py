"""Where this process stands among the processes of a run, read from the environment.

Pure: a mapping of variables in, a value out; nothing is contacted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.distribute.hostlist import expand_counts, expand_hosts
from harness.errors import EnvironmentNotAble

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Topology:
    """One process' place among all.

    ``rank`` of ``size`` counts over all nodes, ``local_rank`` of ``local_size`` over this node,
    ``node`` of ``nodes`` over the nodes.  ``source`` says who started the processes.  ``hosts`` are
    the nodes' names in their order, where the launcher tells them.  ``workers`` are the addresses
    (``host:port``) of ``TF_CONFIG``, by rank; empty otherwise.
    """

    rank: int = 0
    size: int = 1
    source: str = "none"
    local_rank: int = 0
    local_size: int = 1
    node: int = 0
    nodes: int = 1
    hosts: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, at, of in (
            ("rank", self.rank, self.size),
            ("local_rank", self.local_rank, self.local_size),
            ("node", self.node, self.nodes),
        ):
            if not 0 <= at < of:
                raise ValueError(f"{what} must be in [0, {of - 1}], was {at} of {of}")
        if self.local_size > self.size:
            raise ValueError(f"{self.local_size} ranks on this node of {self.size} in all")

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes for all."""
        return self.rank == 0

    @classmethod
    def from_environment(cls, environment: Environment) -> Topology:
        """Reads the variables of a launcher, or takes one process for all.

        In this order, the most specific first: horovodrun, mpirun (Open MPI), mpiexec (MPICH and
        its kin), submitit's local executor, srun, ``TF_CONFIG``.  ``SLURM_NTASKS`` alone means
        nothing: an interactive allocation sets it in a shell that is no rank at all, while
        ``SLURM_STEP_NUM_TASKS`` exists only inside a step that srun started.

        Raises:
            EnvironmentNotAble: a launcher's variables are there and do not make sense.
        """
        for source, names, read in _LAUNCHERS:
            if all(name in environment for name in names):
                try:
                    return read(source, environment)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    seen = " ".join(f"{name}={environment[name]!r}" for name in names)
                    raise EnvironmentNotAble(
                        f"the variables of {source} do not say where this process stands",
                        got=f"{seen} ({error})",
                        allowed="whole numbers, 0 <= rank < size",
                        action=f"unset them, or start the job with {source} again",
                    ) from None
        return cls()


def _horovodrun(source: str, seen: Environment) -> Topology:
    return Topology(
        int(seen["HOROVOD_RANK"]),
        int(seen["HOROVOD_SIZE"]),
        source,
        int(seen.get("HOROVOD_LOCAL_RANK", 0)),
        int(seen.get("HOROVOD_LOCAL_SIZE", 1)),
        int(seen.get("HOROVOD_CROSS_RANK", 0)),
        int(seen.get("HOROVOD_CROSS_SIZE", 1)),
    )


def _mpirun(source: str, seen: Environment) -> Topology:
    """Open MPI does not number the nodes; with equal nodes filled in order they follow."""
    rank, size = int(seen["OMPI_COMM_WORLD_RANK"]), int(seen["OMPI_COMM_WORLD_SIZE"])
    local_rank = int(seen.get("OMPI_COMM_WORLD_LOCAL_RANK", 0))
    local_size = int(seen.get("OMPI_COMM_WORLD_LOCAL_SIZE", 1))
    return _by_blocks(source, rank, size, local_rank, local_size)


def _mpiexec(source: str, seen: Environment) -> Topology:
    rank, size = int(seen["PMI_RANK"]), int(seen["PMI_SIZE"])
    local_rank = int(seen.get("MPI_LOCALRANKID", 0))
    local_size = int(seen.get("MPI_LOCALNRANKS", 1))
    return _by_blocks(source, rank, size, local_rank, local_size)


def _by_blocks(source: str, rank: int, size: int, local_rank: int, local_size: int) -> Topology:
    nodes = max(1, -(-size // local_size))
    return Topology(
        rank, size, source, local_rank, local_size, min(rank // local_size, nodes - 1), nodes
    )


def _local(source: str, seen: Environment) -> Topology:
    rank, size = int(seen["SUBMITIT_LOCAL_GLOBALID"]), int(seen["SUBMITIT_LOCAL_NTASKS"])
    return Topology(rank, size, source, rank, size)


def _srun(source: str, seen: Environment) -> Topology:
    rank, size = int(seen["SLURM_PROCID"]), int(seen["SLURM_STEP_NUM_TASKS"])
    node = int(seen.get("SLURM_NODEID", 0))
    counts = expand_counts(seen.get("SLURM_STEP_TASKS_PER_NODE", str(size)))
    nodes = int(seen.get("SLURM_STEP_NUM_NODES", len(counts)))
    hosts = (
        tuple(expand_hosts(seen["SLURM_STEP_NODELIST"])) if "SLURM_STEP_NODELIST" in seen else ()
    )
    if len(counts) != nodes or sum(counts) != size:
        raise ValueError(f"{size} tasks on {nodes} nodes are not {counts}")
    local_rank = int(seen.get("SLURM_LOCALID", 0))
    return Topology(rank, size, source, local_rank, counts[node], node, nodes, hosts)


def _tf_config(source: str, seen: Environment) -> Topology:
    """TensorFlow's own form: the chief, if there is one, comes before the workers."""
    config = json.loads(seen["TF_CONFIG"])
    cluster, task = config.get("cluster") or {}, config.get("task") or {}
    kinds = [kind for kind in ("chief", "worker") if cluster.get(kind)]
    if not kinds:
        return Topology()  # names no processes: one for all
    workers = [str(address) for kind in kinds for address in cluster[kind]]
    kind, index = str(task["type"]), int(task["index"])
    if kind not in kinds or not 0 <= index < len(cluster[kind]):
        raise ValueError(f"task {kind} {index} is none of {', '.join(kinds)}")
    rank = index + (len(cluster["chief"]) if kind == "worker" and "chief" in kinds else 0)
    hosts = [address.rpartition(":")[0] for address in workers]
    mine = [at for at, host in enumerate(hosts) if host == hosts[rank]]
    order = list(dict.fromkeys(hosts))
    return Topology(
        rank,
        len(workers),
        source,
        mine.index(rank),
        len(mine),
        order.index(hosts[rank]),
        len(order),
        tuple(order),
        tuple(workers),
    )


_Reader = Callable[[str, Environment], Topology]
# Who sets which variables, and how they are read.
_LAUNCHERS: tuple[tuple[str, tuple[str, ...], _Reader], ...] = (
    ("horovodrun", ("HOROVOD_RANK", "HOROVOD_SIZE"), _horovodrun),
    ("mpirun", ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), _mpirun),
    ("mpiexec", ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"), _mpiexec),
    ("submitit", ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS"), _local),
    ("srun", ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"), _srun),
    ("TF_CONFIG", ("TF_CONFIG",), _tf_config),
)
