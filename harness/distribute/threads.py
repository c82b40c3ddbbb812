"""How many threads the operations of one rank may use.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from harness.distribute.topology import Topology


def threads_of(
    topology: Topology, environment: Mapping[str, str], may_use: int, machine: int
) -> int | None:
    """Threads for a rank that shares its node with others; None leaves the choice to TensorFlow.

    TensorFlow takes as many as the process may use cores.  Where the launcher binds each rank to
    cores of its own that is right; where it does not, every rank would take the whole node.

    Args:
        may_use: cores that the process may use; machine: cores of the node.
    """
    if topology.local_size == 1:
        return None
    share = may_use
    if may_use >= machine:  # nobody has bound the ranks
        share = machine // topology.local_size
    given = environment.get("SLURM_CPUS_PER_TASK", "")
    if given.isdecimal() and int(given) > 0:
        share = min(share, int(given))
    return max(1, share)
