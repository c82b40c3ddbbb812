"""``data.cache`` of a run: how much each rank may keep, and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.data.cache import DecodedCache, InMemory, OnDisk, Store
from harness.data.staging_room import room_at
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble, StorageError
from harness.runs.memory import memory_left
from harness.runs.storage import readable_bytes
from harness.spec import Spec
from harness.worker.scratch import SCRATCH, NotStaged, place_of, scratch_variables

_OF_MEMORY = 2
"""Half of the memory that is left is for the training, which has yet to take what it needs."""


class Caches:
    """The caches of one rank, one for each split that is read in every epoch.

    Args:
        counts: examples of these splits, by which they share the room.
        place: this rank; those on its node share the room too.
        say: hears once of each cache that is full.

    Raises:
        EnvironmentNotAble: there is no disk of this node's own to keep them on.
        StorageError: nothing can be written there.
    """

    def __init__(
        self,
        spec: Spec,
        counts: Mapping[str, int],
        environment: Mapping[str, str],
        place: Topology,
        say: Callable[[str], None],
    ) -> None:
        self._say, self._name = say, spec.data.cache
        self._counts = {name: count // place.size for name, count in counts.items()}
        self._caches: dict[str, DecodedCache] = {}
        self._told: set[str] = set()
        if self._name == "none":
            return
        make, room = _store(spec, environment, place.local_size, say)
        whole = max(1, sum(counts.values()))
        for name, count in counts.items():
            self._caches[name] = DecodedCache(make(), room * count // whole)

    def of(self, split: str) -> DecodedCache | None:
        """The cache of a split; None where nothing is kept."""
        return self._caches.get(split)

    def check(self) -> None:
        """Says which caches are full."""
        for name, cache in self._caches.items():
            if cache.full and name not in self._told:
                self._told.add(name)
                self._say(
                    f"data.cache: {self._name} keeps {len(cache)} of about {self._counts[name]} "
                    f"{name} examples of this rank ({readable_bytes(cache.bytes)}), as "
                    f"{cache.full}; the others are decoded in every epoch"
                )


def _store(
    spec: Spec, environment: Mapping[str, str], processes: int, say: Callable[[str], None]
) -> tuple[Callable[[], Store], int]:
    """What makes a store, and the bytes that this rank may keep in all of its stores."""
    if spec.data.cache == "memory":
        return InMemory, memory_left(environment, processes) // _OF_MEMORY // processes
    folder = _folder(spec, environment, say)
    try:
        room = room_at(folder, lambda: memory_left(environment, processes)).bytes // processes
        OnDisk(folder).clear()
    except OSError as error:
        raise StorageError(
            "data.cache: disk cannot write to the scratch folder of this node",
            got=f"{folder}: {error.strerror or error}",
            allowed="a folder on a disk of the node that this user may write to",
            action="name one in scratch_variables of the site, or in cluster.stage, or set "
            "data.cache: memory",
        ) from error
    return lambda: OnDisk(folder), room


def _folder(spec: Spec, environment: Mapping[str, str], say: Callable[[str], None]) -> Path:
    stage, site = spec.cluster.stage, spec.cluster.site
    named = stage if stage not in ("none", SCRATCH) else SCRATCH
    variables = scratch_variables(site if named == SCRATCH else None, say)
    try:
        return place_of(named, variables, environment).folder
    except NotStaged as error:
        raise EnvironmentNotAble(
            "data.cache: disk has no disk of this node",
            got=str(error),
            allowed="a folder on a disk of the node",
            action="name one in scratch_variables of the site, or in cluster.stage, or set "
            "data.cache: memory",
        ) from error
