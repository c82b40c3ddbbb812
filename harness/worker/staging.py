"""Staging in a run: packed data are copied to the node beside the training that reads them.

Every rank tries for the lock of a set, and the one of a node that gets it copies.  All of them
read a file from the node as soon as it has its name there, and from shared storage before.
Nothing that goes wrong here ends a run: it is recorded, said, and read from shared storage.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from harness.data.nearby import Nearby
from harness.data.packed import PackedIndex
from harness.data.staging import Item, StagedSet, Stopped, remove_unused
from harness.data.staging_room import Room, room_at
from harness.errors import HarnessError
from harness.runs.memory import memory_left
from harness.runs.storage import readable_bytes
from harness.worker.notices import Notice
from harness.worker.scratch import NotStaged, Place, node_name, same_file_system

_THREADS = 2
"""Files copied at a time: one waits for shared storage while the other is checked."""
_AGAIN_S = 2.0
_END_S = 5.0


class Staging:
    """The staging of one rank, from :meth:`begin` to :meth:`close`.

    Args:
        tell: hears what happened, from any thread.
    """

    def __init__(
        self,
        place: Place,
        environment: Mapping[str, str],
        processes: int,
        tell: Callable[[Notice], None],
    ) -> None:
        self._place, self._tell = place, tell
        self._memory_left = lambda: memory_left(environment, processes)
        self._node = node_name(environment)
        self._sets: list[tuple[str, StagedSet]] = []
        self._stop = threading.Event()
        self._closed = False
        self._locks = ExitStack()
        self._thread = threading.Thread(target=self._run, name="staging", daemon=True)

    def begin(self, sets: Mapping[str, Sequence[PackedIndex]]) -> None:
        """Has sets copied in a thread, and read from there by all who hold these indexes.

        Args:
            sets: by the fields that name them; the indexes of one are of the same set.
        """
        for name, indexes in sets.items():
            one = StagedSet(indexes[0], self._place.base)
            try:
                if self._place.said != "cluster.stage" and same_file_system(
                    one.index.root, self._place.folder
                ):
                    raise NotStaged(
                        f"{self._place.folder} is on the file system of the data themselves; next: "
                        "name another folder in cluster.stage, or leave it out"
                    )
                one.make()
                self._locks.enter_context(one.using())
            except (NotStaged, HarnessError, OSError) as error:
                self._say(f"{name} is not staged: {_words(error)}")
                continue
            near = Nearby(one.folder, partial(self._lost, name))
            for index in indexes:
                index.near = near
            self._sets.append((name, one))
        if self._sets:
            self._thread.start()

    def close(self) -> None:
        """Ends the copying, and removes what is staged in a folder that is the job's own."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_END_S)
        self._closed = True
        self._locks.close()
        if not self._place.private:
            return
        for _, one in self._sets:
            with contextlib.suppress(OSError):
                one.remove()
        for folder in (self._place.base, self._place.base.parent):
            with contextlib.suppress(OSError):  # another run of this job, or what it left
                folder.rmdir()

    def _run(self) -> None:
        _step_back()
        for name, one in self._sets:
            try:
                self._stage(name, one)
            except Stopped:
                return
            except (HarnessError, OSError) as error:
                self._say(f"{name} is not staged: {_words(error)}")

    def _stage(self, name: str, one: StagedSet) -> None:
        """Copies a set, or waits until another process of this node has."""
        while not one.is_whole():
            with ExitStack() as trial:
                if trial.enter_context(one.copying()):
                    # For as long as this rank lives: who comes later would find no more room.
                    self._locks.push(trial.pop_all())
                    self._copy(name, one)
                    return
            if self._stop.wait(_AGAIN_S):
                raise Stopped

    def _copy(self, name: str, one: StagedSet) -> None:
        begun = time.monotonic()
        one.sweep()
        missing = one.missing()
        fitting, room = self._make_room(name, one, missing)
        with ThreadPoolExecutor(_THREADS, "staging", _step_back) as pool:
            copied = list(pool.map(partial(self._copy_one, name, one), fitting))
        left = one.missing()
        if not left:
            one.finish()
        facts = {
            "folder": str(one.folder),
            "files": len(one.items) - len(left),
            "of_files": len(one.items),
            "bytes": one.bytes - sum(item.bytes for item in left),
            "of_bytes": one.bytes,
            "copied_bytes": sum(copied),
            "seconds": round(time.monotonic() - begun, 3),
        }
        self._say(_summary(name, facts, self._why_not(left, missing, fitting, room)), name, facts)

    def _make_room(
        self, name: str, one: StagedSet, missing: Sequence[Item]
    ) -> tuple[list[Item], Room]:
        """The files that there is room for, and the room."""
        need = sum(item.bytes for item in missing)
        room = room_at(one.folder, self._memory_left)
        removed = []
        if not self._place.private:
            removed = remove_unused(one.base, one.key, max(0, need - room.bytes))
        if removed:
            self._say(f"removed for {name}, as nobody used them: {', '.join(removed)}")
            room = room_at(one.folder, self._memory_left)
        fitting, left = [], room.bytes
        for item in missing:
            if item.bytes <= left:
                fitting.append(item)
                left -= item.bytes
        return fitting, room

    def _copy_one(self, name: str, one: StagedSet, item: Item) -> int:
        """Bytes that were copied."""
        if self._stop.is_set():
            return 0
        try:
            # Others write there as well, and a training takes memory as it goes.
            if item.bytes > room_at(one.folder, self._memory_left).bytes:
                return 0
            one.copy(item, self._stop.is_set)
        except Stopped:
            return 0
        except (HarnessError, OSError) as error:
            self._say(f"{name}: {item.name} is not staged: {_words(error)}")
            return 0
        return item.bytes

    def _why_not(
        self, left: Sequence[Item], missing: Sequence[Item], fitting: Sequence[Item], room: Room
    ) -> str:
        if not left:
            return ""
        if self._stop.is_set():
            return "the training ended before the rest"
        if len(fitting) < len(missing):
            return f"there is no room for the rest: {room.why}"
        return "the rest is read from shared storage"

    def _lost(self, name: str, file: str, why: str) -> None:
        self._say(f"{name}: the staged {file} {why}; it is read from shared storage")

    def _say(self, text: str, name: str | None = None, facts: Notice | None = None) -> None:
        if not self._closed:
            found = {} if facts is None else {"set": name, "facts": facts}
            self._tell({"node": self._node, "text": text, **found})


def _summary(name: str, facts: Notice, why_not: str) -> str:
    size, copied = readable_bytes(facts["bytes"]), readable_bytes(facts["copied_bytes"])
    return (
        f"{name}: {facts['files']} of {facts['of_files']} files staged ({size}, of which {copied} "
        f"copied in {facts['seconds']:.1f} s): {facts['folder']}"
        + (f"; {why_not}" if why_not else "")
    )


def _words(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def _step_back() -> None:
    """Lowers the priority of this thread alone, as Linux allows: decoding comes first."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
