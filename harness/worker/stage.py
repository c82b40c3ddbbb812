"""Staging by hand: packed sets copied whole to a folder of this node, or refused."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from harness.data.packed import PackedIndex, is_packed, open_packed
from harness.data.staging import Item, StagedSet, remove_unused
from harness.data.staging_room import room_at
from harness.errors import DataError, StorageError, UsageError
from harness.runs.memory import memory_left
from harness.runs.storage import readable_bytes
from harness.spec import Spec
from harness.worker.counted import Counted
from harness.worker.scratch import NotStaged, Place, place_of

_AGAIN_S = 1.0


@dataclass(frozen=True)
class Staged:
    """What was done for one set.

    ``name`` is the path or the field that named it; ``damaged`` are the copies whose checksum was
    wrong and that were made again; ``removed`` the unused sets that had to make room.
    """

    name: str
    source: Path
    folder: Path
    files: int
    bytes: int
    copied_files: int
    copied_bytes: int
    damaged: tuple[str, ...]
    removed: tuple[str, ...]
    seconds: float


def packed_of(spec: Spec) -> dict[str, PackedIndex]:
    """The packed sets that a spec names, by field; one that two fields name comes once.

    Raises:
        DataError: one is not whole.
    """
    found: dict[str, tuple[str, PackedIndex]] = {}
    for field in ("train", "validation", "test"):
        path = getattr(spec.data, field)
        if isinstance(path, str) and is_packed(Path(path)):
            index = open_packed(path)
            found.setdefault(index.digest, (f"data.{field}", index))
    return dict(found.values())


def sets_of(spec: Spec) -> dict[str, PackedIndex]:
    """The same of a spec that has to name some.

    Raises:
        UsageError: it names none.
        DataError: one is not whole.
    """
    found = packed_of(spec)
    if not found:
        raise UsageError(
            "the spec names no packed data",
            got=f"data.train: {spec.data.train}",
            action="pack them with `harness pack SRC DST`, and name DST in the spec",
            path="data",
        )
    return found


def place_to(
    to: Path | None, stage: str, variables: Sequence[str], environment: Mapping[str, str]
) -> Place:
    """Where to: ``to``, else what a spec's ``cluster.stage`` says, else the node's scratch.

    Raises:
        UsageError: that is shared storage itself.
    """
    if to is not None:
        return Place(to.absolute(), "--to")
    try:
        return place_of("scratch" if stage == "none" else stage, variables, environment)
    except NotStaged as error:
        raise UsageError(f"nothing is staged: {error}") from None


def stage_sets(
    sets: Mapping[str, PackedIndex],
    place: Place,
    workers: int,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    progress: TextIO | None = None,
) -> list[Staged]:
    """Copies sets; what is there already is held against its checksum and stays.

    Args:
        sets: by what named them.
        workers: files copied at a time.

    Raises:
        DataError: a file of a set is missing, or not what was packed.
        StorageError: there is no room for all of a set, or the place cannot be written.
    """
    done = []
    for name, index in sets.items():
        one = StagedSet(index, place.base)
        try:
            one.make()
            with one.using(), _alone(one, say):
                done.append(_stage(name, one, place, workers, environment, progress or sys.stderr))
        except OSError as error:
            raise StorageError(
                f"{one.folder}: cannot be written",
                got=error.strerror,
                action="name another place with --to, or look at its rights and its space",
            ) from error
    return done


def _stage(
    name: str,
    one: StagedSet,
    place: Place,
    workers: int,
    environment: Mapping[str, str],
    progress: TextIO,
) -> Staged:
    begun = time.monotonic()
    one.sweep()
    gone = set(one.missing())
    there = [item for item in one.items if item not in gone]
    with ThreadPoolExecutor(workers) as pool:
        damaged = [
            i.name for i, bad in zip(there, pool.map(one.drop_damaged, there), strict=True) if bad
        ]
    missing = one.missing()
    removed = _make_room(name, one, missing, place, environment)
    size = sum(item.bytes for item in missing)
    with Counted("copied", "bytes", size, progress) as counted:
        _copy_all(one, missing, workers, counted.add)
    if not one.is_whole():
        one.finish()
    return Staged(
        name,
        one.index.root,
        one.folder,
        len(one.items),
        one.bytes,
        len(missing),
        size,
        tuple(damaged),
        tuple(removed),
        time.monotonic() - begun,
    )


def _make_room(
    name: str,
    one: StagedSet,
    missing: Sequence[Item],
    place: Place,
    environment: Mapping[str, str],
) -> list[str]:
    """Keys of the sets that were removed."""
    need = sum(item.bytes for item in missing)
    room = room_at(one.folder, lambda: memory_left(environment))
    removed = []
    if not place.private:
        removed = remove_unused(one.base, one.key, max(0, need - room.bytes))
    if removed:
        room = room_at(one.folder, lambda: memory_left(environment))
    if need > room.bytes:
        raise StorageError(
            f"there is no room for {name} in {place.folder}",
            got=f"{readable_bytes(need)} to copy; {room.why}",
            allowed=readable_bytes(room.bytes),
            action="name another place with --to, or remove files there",
        )
    return removed


def _copy_all(
    one: StagedSet, items: Sequence[Item], workers: int, told: Callable[[int], None]
) -> None:
    stop = threading.Event()

    def copy(item: Item) -> None:
        one.copy(item, stop.is_set)
        told(item.bytes)

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(copy, item) for item in items]
        try:
            finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            raise


@contextmanager
def _alone(one: StagedSet, say: Callable[[str], None]) -> Iterator[None]:
    """Waits until nobody else copies the set."""
    told = False
    while True:
        with one.copying() as held:
            if held:
                yield
                return
        if not told:
            say(f"another process copies {one.index.root}; waiting for it")
            told = True
        time.sleep(_AGAIN_S)


def open_data(path: Path) -> PackedIndex:
    """The packed set at a path.

    Raises:
        UsageError: something else is there.
        DataError: it is not whole.
    """
    if path.is_dir() and not is_packed(path):
        raise UsageError(
            f"{path} is not packed",
            allowed="a packed set, or a spec (.yaml)",
            action="pack it with `harness pack SRC DST`: only few large files are staged",
        )
    if not path.exists():
        raise DataError(f"{path} does not exist", action="correct the path")
    return open_packed(path)
