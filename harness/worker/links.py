"""How the ranks of a run reach one another: what Horovod and TensorFlow need to start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from harness.distribute import rendezvous
from harness.distribute.choose import Links
from harness.distribute.devices import gpu_ids, mine
from harness.distribute.horovod_built import horovod_facts, horovod_hint
from harness.distribute.sockets import hold_port
from harness.distribute.strategy import HorovodState
from harness.errors import EnvironmentNotAble
from harness.worker.ranks import Ranks


def links_of(ranks: Ranks, environment: Mapping[str, str]) -> Links:
    """The links that a distribution may ask for."""
    return Links(
        horovod_state(controller_of(ranks.topology.source, environment)),
        partial(_start_horovod, ranks, dict(environment)),
        partial(_workers, ranks),
    )


def controller_of(source: str, environment: Mapping[str, str]) -> str:
    """By which of Horovod's controllers the ranks find one another: ``gloo`` or ``mpi``.

    Args:
        source: of the topology.
    """
    asked = environment.get("HOROVOD_CONTROLLER", "").lower()
    if asked in ("gloo", "mpi"):
        return asked
    return "mpi" if source in ("mpirun", "mpiexec") else "gloo"


def horovod_state(controller: str) -> HorovodState:
    """Whether the Horovod that is installed here can be used with ``controller``."""
    facts = horovod_facts()
    if facts is None:
        return HorovodState("Horovod is not installed", f"run: {horovod_hint()}")
    again = f"build it for this environment: {horovod_hint([controller])}"
    if facts.trouble is not None:
        return HorovodState(f"the Horovod that is installed does not fit: {facts.trouble}", again)
    if controller not in facts.controllers:
        built = ", ".join(facts.controllers)
        return HorovodState(
            f"Horovod was built with {built}, and its ranks are to meet by {controller}", again
        )
    return HorovodState(None, again)


def _start_horovod(ranks: Ranks, environment: dict[str, str], gpus: bool) -> Any:
    ops = _started_horovod(ranks, environment, gpus)
    if ranks.topology.source != "none":
        # A launcher by MPI takes a rank that goes without a word to MPI for one that has crashed.
        # One process with no launcher may train again, and MPI does not start twice.
        ranks.at_end(partial(rendezvous.stop, ops))
    return ops


def _started_horovod(ranks: Ranks, environment: dict[str, str], gpus: bool) -> Any:
    place = ranks.topology
    facts = horovod_facts()
    wakes = facts is not None and facts.wakes
    given = rendezvous.pace(environment, gpus=gpus, wakes=wakes)
    launched = place.source in rendezvous.LAUNCHERS or place.size == 1
    if launched or controller_of(place.source, environment) == "mpi":
        return rendezvous.start(place, given | rendezvous.settings(place, environment, None))
    counted = Counter(member.node_number for member in ranks.members)
    sizes = [counted[number] for number in range(place.nodes)]
    server = rendezvous.Rendezvous(place, sizes) if ranks.first else None
    port = ranks.from_first("rendezvous", lambda: server.port if server is not None else 0)
    meeting = (ranks.members[0].address, port, ranks.members[place.rank].address)
    # One that is still at its imports would keep the others waiting past Gloo's patience.
    ranks.barrier("horovod")
    ops = rendezvous.start(place, given | rendezvous.settings(place, environment, meeting, sizes))
    ranks.barrier("horovod has started")
    if server is not None:
        server.close()
    return ops


def _workers(ranks: Ranks) -> list[str]:
    """``host:port`` of each rank's TensorFlow: TF_CONFIG's, or a free port of each rank."""
    if ranks.topology.workers:
        return list(ranks.topology.workers)
    held, port = hold_port()
    addresses = [member.address for member in ranks.members]
    ports = ranks.gather("port", port)
    # TensorFlow's server takes the port while it is held, so nobody else can come between.
    ranks.keep(held)
    return [f"{address}:{port}" for address, port in zip(addresses, ports, strict=True)]


def check_not_shared(ranks: Ranks, gpus_per_node: int | None) -> None:
    """Holds that no two ranks compute on one GPU.

    Raises:
        EnvironmentNotAble: two do; names them.
    """
    place = ranks.topology
    if place.size == 1:
        return
    seen = gpu_ids()
    asked = (gpus_per_node or 0) // place.local_size
    own: list[str] = []
    if seen:
        own = list(mine(seen, place, asked or max(1, len(seen) // place.local_size)))
    shared = shared_gpus([(m.node_number, gpus) for m, gpus in _pairs(ranks, own)])
    if shared:
        raise EnvironmentNotAble(
            "two ranks would compute on one GPU",
            got="; ".join(shared),
            allowed="a GPU for each rank",
            action="set cluster.ranks_per_node to the GPUs of a node or fewer, or start the ranks "
            "with srun --gpus-per-task=1",
        )


def _pairs(ranks: Ranks, own: list[str]) -> list[tuple[Any, list[str]]]:
    return list(zip(ranks.members, ranks.gather("gpus", own), strict=True))


def shared_gpus(of_ranks: list[tuple[int, list[str]]]) -> list[str]:
    """The GPUs that several ranks have, in words; pure.

    Args:
        of_ranks: by rank, the number of its node and the bus ids of its GPUs.
    """
    users: dict[tuple[int, str], list[int]] = {}
    for rank, (node, gpus) in enumerate(of_ranks):
        for gpu in gpus:
            users.setdefault((node, gpu), []).append(rank)
    return [
        f"GPU {gpu} of node {node}: ranks {', '.join(map(str, some))}"
        for (node, gpu), some in users.items()
        if len(some) > 1
    ]
