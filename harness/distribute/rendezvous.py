"""Starts Horovod: under srun with no launcher, under horovodrun, under mpirun."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from harness.distribute.horovod_built import IDLE_TIME
from harness.distribute.interfaces import interface_of
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble

LAUNCHERS = ("horovodrun", "mpirun", "mpiexec")
"""Those that bring Horovod's ranks together themselves."""

_SETTINGS = {
    # Joined groups depend on timing, and so would the last bits of every sum.
    "HOROVOD_DISABLE_GROUP_FUSION": "1",
    # The default of 30 s is less than a busy node needs to start all its ranks.
    "HOROVOD_GLOO_TIMEOUT_SECONDS": "300",
}
_CYCLE = "HOROVOD_CYCLE_TIME"
"""In milliseconds."""
_YIELD = "OMPI_MCA_mpi_yield_when_idle"
"""Of Open MPI: who waits for a message gives the core away, and does not look again and again."""
_IDLE_MS = "500"
"""A rank that waits for none may keep the others waiting for so long, at an end for instance.  Each
time it wakes for nothing costs the step of all ranks: 50 ms took 1 to 2 % of it."""


class Rendezvous:
    """The server at which the ranks' Gloo contexts find one another; kept by rank 0."""

    def __init__(self, topology: Topology, sizes: list[int]) -> None:
        """
        Args:
            sizes: ranks on each node.
        """
        from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
        from horovod.runner.http.http_server import RendezvousServer

        hosts = ",".join(f"node{number}:{size}" for number, size in enumerate(sizes))
        self._server = RendezvousServer()
        self.port = int(self._server.start())
        self._server.init(get_host_assignments(parse_hosts(hosts), topology.size))

    def close(self) -> None:
        """Ends the server: once the ranks are connected nobody asks it any more."""
        self._server.stop()


def settings(
    topology: Topology,
    environment: Mapping[str, str],
    meeting: tuple[str, int, str] | None,
    sizes: Sequence[int] = (),
) -> dict[str, str]:
    """Variables that Horovod reads when it starts; what the user has set stays.

    Args:
        meeting: of a :class:`Rendezvous`: address and port, and this rank's own address.  None
            where a launcher has done all.
        sizes: ranks on each node.
    """
    wanted = dict(_SETTINGS)
    if meeting is not None:
        address, port, own = meeting
        # Ranks of one local rank on different nodes; not every node need have as many.
        peers = [node for node, size in enumerate(sizes) if size > topology.local_rank]
        wanted |= {
            "HOROVOD_CONTROLLER": "gloo",
            "HOROVOD_CPU_OPERATIONS": "gloo",
            "HOROVOD_GLOO_RENDEZVOUS_ADDR": address,
            "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
            "HOROVOD_RANK": str(topology.rank),
            "HOROVOD_SIZE": str(topology.size),
            "HOROVOD_LOCAL_RANK": str(topology.local_rank),
            "HOROVOD_LOCAL_SIZE": str(topology.local_size),
            "HOROVOD_CROSS_RANK": str(peers.index(topology.node)),
            "HOROVOD_CROSS_SIZE": str(len(peers)),
            # It groups the ranks of a node.  Not the machine's own name: several nodes of a
            # test cluster may share one machine.
            "HOROVOD_HOSTNAME": f"node{topology.node}",
        }
        interface = interface_of(own)
        if interface is not None:
            # Without it Gloo asks what the host name resolves to, which may be a loopback address.
            wanted["HOROVOD_GLOO_IFACE"] = interface
    return {name: value for name, value in wanted.items() if name not in environment}


def pace(environment: Mapping[str, str], *, gpus: bool, wakes: bool) -> dict[str, str]:
    """How often Horovod's thread looks for what is to be summed, where the user has not said it.

    Each time it speaks with all ranks.  Beside GPUs it has a core to itself; where it shares one
    with the step, its own millisecond took 7 % of it, and waiting in Open MPI a quarter.

    Args:
        wakes: it can be woken by what is to be summed, and sleep until then.
    """
    if gpus:
        return {}
    waiting = {} if _YIELD in environment else {_YIELD: "1"}
    if _CYCLE in environment:
        return waiting
    return waiting | ({_CYCLE: "1", IDLE_TIME: _IDLE_MS} if wakes else {_CYCLE: "5"})


def start(topology: Topology, variables: dict[str, str]) -> Any:
    """Initialises Horovod and gives its operations, ``horovod.tensorflow.mpi_ops``.

    Raises:
        EnvironmentNotAble: it does not start, or counts the ranks otherwise than the launcher.
    """
    check_own_name()
    os.environ.update(variables)
    ops = importlib.import_module("horovod.tensorflow.mpi_ops")
    try:
        ops.init()
        seen = (ops.rank(), ops.size())
    except Exception as error:  # it raises ValueError, RuntimeError and its own
        raise EnvironmentNotAble(
            "Horovod could not be started",
            got=f"{type(error).__name__}: {str(error).strip()[:300]}",
            allowed=f"{topology.size} ranks that reach one another",
            action="check it with `harness horovod --check`, and see the log of each rank",
        ) from error
    if seen != (topology.rank, topology.size):
        raise EnvironmentNotAble(
            "Horovod and the launcher do not agree on the ranks",
            got=f"rank {seen[0]} of {seen[1]} by Horovod, {topology.rank} of {topology.size} by "
            f"{topology.source}",
            action="unset HOROVOD_CONTROLLER, or start the ranks with a launcher that its MPI "
            "knows (srun --mpi=pmix, mpirun)",
        )
    return ops


def check_own_name() -> None:
    """Holds that this machine can look up its own name: without that Horovod ends the process.

    Raises:
        EnvironmentNotAble: it cannot.
    """
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        raise EnvironmentNotAble(
            "this machine cannot look up its own name, which Horovod needs to start",
            got=f"{name!r}: {error.strerror or error}",
            allowed="a name that DNS or /etc/hosts knows",
            action="have it added to /etc/hosts of the node or of the container image, or set "
            "cluster.strategy: multiworker",
        ) from error


def stop(ops: Any) -> None:
    """Ends Horovod's thread in this process; an error of ranks that have left already is none."""
    with contextlib.suppress(RuntimeError, ValueError):
        ops.shutdown()
