"""How many ranks and replicas a spec asks for, and whether they can be.  Pure."""

from __future__ import annotations

from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble
from harness.spec.models_cluster import Cluster


def ranks_per_node(cluster: Cluster) -> int:
    """Processes on each node: as the spec says, else what its strategy needs.

    Horovod computes on one device in each rank, so it has a rank for each GPU, and so does ``auto``
    on several nodes.  ``single``, ``mirrored`` and ``multiworker`` have one process on a node,
    which uses all its GPUs.
    """
    if cluster.ranks_per_node is not None:
        return cluster.ranks_per_node
    of_gpus = cluster.strategy == "horovod" or (cluster.strategy == "auto" and cluster.nodes > 1)
    return max(1, cluster.gpus_per_node or 0) if of_gpus else 1


def replicas_of(cluster: Cluster) -> int:
    """The replicas that ``cluster`` asks for; what a node really has is seen only there."""
    here = ranks_per_node(cluster)
    ranks = cluster.nodes * here
    if cluster.strategy == "single":
        return ranks
    return ranks * (cluster.replicas_per_rank or max(1, (cluster.gpus_per_node or 1) // here))


def check_asked(cluster: Cluster) -> None:
    """Holds strategy, ranks and GPUs of a spec against one another.

    Raises:
        EnvironmentNotAble: they cannot go together.
    """
    here, gpus = ranks_per_node(cluster), cluster.gpus_per_node or 0
    ranks = cluster.nodes * here
    if cluster.strategy in ("single", "mirrored") and ranks > 1:
        raise EnvironmentNotAble(
            f"cluster.strategy is {cluster.strategy}, which is for one process",
            got=f"{cluster.nodes} nodes with {here} ranks each",
            allowed="cluster.nodes: 1 and one rank; auto, horovod or multiworker for more",
            action="set cluster.strategy: auto, or cluster.nodes: 1 and no ranks_per_node",
            path="cluster.strategy",
        )
    if cluster.strategy == "multiworker" and ranks == 1:
        raise EnvironmentNotAble(
            "cluster.strategy is multiworker and there is one rank",
            got=f"cluster.nodes: {cluster.nodes}",
            allowed="two ranks or more",
            action="set cluster.nodes or cluster.ranks_per_node, or cluster.strategy: auto",
            path="cluster.strategy",
        )
    if gpus and gpus % here:
        raise EnvironmentNotAble(
            "the ranks of a node cannot share its GPUs evenly, and two ranks must not use one",
            got=f"{here} ranks and {gpus} GPUs on a node",
            allowed="as many ranks as GPUs, or a number that divides them",
            action="set cluster.ranks_per_node to cluster.gpus_per_node",
            path="cluster.ranks_per_node",
        )
    if cluster.strategy == "horovod" and gpus > here:
        raise EnvironmentNotAble(
            "a rank of Horovod computes on one GPU",
            got=f"{here} ranks and {gpus} GPUs on a node",
            allowed=f"cluster.ranks_per_node: {gpus}",
            action="leave out cluster.ranks_per_node, or set cluster.strategy: multiworker",
            path="cluster.ranks_per_node",
        )


def check_started(cluster: Cluster, topology: Topology) -> None:
    """Holds the ranks that were started against those that the spec names.

    A spec that names none takes what there is: a template's own lines say how many.

    Raises:
        EnvironmentNotAble: there are fewer or more.
    """
    if cluster.nodes == 1 and cluster.ranks_per_node is None:
        return
    wanted = cluster.nodes * ranks_per_node(cluster)
    if topology.size != wanted:
        by = "" if topology.size == 1 else f" by {topology.source}"
        raise EnvironmentNotAble(
            "not as many ranks were started as the spec asks for",
            got=f"{topology.size}{by}",
            allowed=f"{wanted} (cluster.nodes: {cluster.nodes}, {ranks_per_node(cluster)} ranks on "
            "each)",
            action="use harness submit, or start it with so many (srun --ntasks), or change it: "
            "-o cluster.nodes=1 -o cluster.ranks_per_node=null",
            path="cluster.nodes",
        )
