"""Where the ranks of one start meet: the key they share, addresses and ports to try.  Pure.

All of it follows from what a launcher gives every rank.
"""

from __future__ import annotations

import hashlib
import os
import re

from harness.distribute.topology import Environment, Topology

SECRET = "HARNESS_GANG_SECRET"  # noqa: S105 - the name of a variable
"""Variable with something nobody else knows, the same on all ranks; made anew for every start."""
ADDRESS = "HARNESS_GANG_ADDRESS"
"""Variable with the host name or IP of rank 0's node, for launchers that do not tell it."""

# Below the ports that Linux gives to outgoing connections (from 32768 on by default), above those
# of well-known services.  All nodes must try the same, so they do not follow a node's settings.
_FIRST_PORT, _LAST_PORT = 20_000, 31_999
_PORTS = 16

# What every rank of one start has in common and no other start has, by launcher.
_IDENTITY = {
    "srun": ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"),
    # The id is the controller's process; it starts the ranks once, so there is no restart.
    "submitit": ("SUBMITIT_LOCAL_JOB_ID",),
    "horovodrun": (
        "HOROVOD_GLOO_RENDEZVOUS_ADDR",
        "HOROVOD_GLOO_RENDEZVOUS_PORT",
        "OMPI_MCA_orte_precondition_transports",
        "PMIX_NAMESPACE",
    ),
    # The first is random and Open MPI 4's own secret of a job.
    "mpirun": (
        "OMPI_MCA_orte_precondition_transports",
        "OMPI_MCA_ess_base_jobid",
        "PMIX_NAMESPACE",
    ),
    "mpiexec": ("SLURM_JOB_ID",),
    "TF_CONFIG": (),
    "none": (),
}


def meeting_key(topology: Topology, environment: Environment, run_id: str | None) -> str:
    """What only the ranks of this start have in common; never sent, never to be printed.

    Made of the launcher's own number for this start, the user id, the run and, where it is set,
    ``HARNESS_GANG_SECRET``.  Without that variable (and with no Open MPI, which brings a secret)
    somebody on the same machines could work it out: it then keeps jobs apart, not attackers.
    """
    parts = [topology.source, str(topology.size), str(os.getuid()), run_id or ""]
    parts += [f"{name}={environment.get(name, '')}" for name in _IDENTITY[topology.source]]
    parts += topology.workers
    parts.append(environment.get(SECRET, ""))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def meeting_addresses(topology: Topology, environment: Environment) -> list[str]:
    """Where this rank looks for rank 0, best first; loopback alone where all are on one node.

    Beside the name of the first node there is what else may lead there: SLURM's address of the node
    that called srun (the first one, in a batch job), the machine of horovodrun or mpirun, and for
    ranks of the first node itself loopback.
    """
    if topology.local_size == topology.size:
        return ["127.0.0.1"]
    found = [environment.get(ADDRESS, "")]
    if topology.node == 0:
        found.append("127.0.0.1")
    if topology.workers:
        found.append(topology.workers[0].rpartition(":")[0].strip("[]"))
    found += topology.hosts[:1]
    found.append(environment.get("SLURM_LAUNCH_NODE_IPADDR", ""))
    found.append(environment.get("HOROVOD_GLOO_RENDEZVOUS_ADDR", ""))
    # Such as 803012608.0;tcp://10.0.0.2,192.168.0.2:56765;tcp6://[fd00::2]:50017
    for some in re.findall(r"tcp://([\d.,]+):", environment.get("OMPI_MCA_orte_hnp_uri", "")):
        found += some.split(",")
    return list(dict.fromkeys(address for address in found if address))


def meeting_ports(key: str) -> tuple[int, ...]:
    """The ports at which rank 0 may be, in the order in which they are tried; all distinct."""
    ports: list[int] = []
    number = 0
    while len(ports) < _PORTS:
        digest = hashlib.sha256(f"harness gang port\0{key}\0{number}".encode()).digest()
        port = _FIRST_PORT + int.from_bytes(digest[:4], "big") % (_LAST_PORT - _FIRST_PORT + 1)
        if port not in ports:
            ports.append(port)
        number += 1
    return tuple(ports)
