"""The records of packed shards in the order of training, read ahead of the loop.

A lane is read window after window, the pieces of a window (see
:func:`~harness.data.packed_read.pieces`) side by side: first what is needed first, so that the
first batch waits for one piece of each lane and not for whole windows.  While half of a window is
given, the next one is read, piece by piece; the lanes begin with theirs one after the other and not
all at once.  What has been given is let go.  So memory is that of one and a half windows of each
lane.  Free of TensorFlow.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.nearby import Room
from harness.data.order import Order, sorted_row
from harness.data.packed_examples import PackedExamples
from harness.data.packed_read import pieces, read_records
from harness.data.windows import Windows

_THREADS = 8
"""Reads under way: storage behind a network answers many as soon as one; more threads than these
would only wait for the interpreter."""


class Rows(NamedTuple):
    """Rows of one global batch, lane-major: vectors of one length.

    Attributes:
        parsed: what was made of the records.
        row: numbers among the sorted names of the whole set.
        mask, epoch: see :class:`harness.data.order.Order`.
    """

    parsed: list[Any]
    row: NDArray[np.int64]
    mask: NDArray[np.float32]
    epoch: NDArray[np.int64]


def stream(
    examples: PackedExamples,
    order: Order,
    start: int,
    first_lane: int,
    lanes: int,
    parse: Callable[[memoryview], Any],
) -> Generator[Rows, None, None]:
    """The rows of some lanes in every global batch from ``start`` on, without end.

    Args:
        parse: makes what is given of a record, in the threads that read; gets nothing of a damaged
            one.  The record is gone when it returns.

    Raises:
        DataError: files of the set are not whole.
    """
    windows = Windows(order, start)
    readers = _Readers(min(_THREADS, lanes), examples, parse)
    waiting: deque[_Lane] = deque()
    try:
        read = [
            _Lane(lane, windows, examples, readers, waiting)
            for lane in range(first_lane, first_lane + lanes)
        ]
        _begin(read)
        # So many in a step that each lane has its turn while it gives a window.
        turns = -(-lanes * order.per_lane // order.window_rows)
        while True:
            taken = [lane.take() for lane in read for _ in range(order.per_lane)]
            yield Rows(
                [window.parsed(at) for window, at in taken],
                np.array([window.row[at] for window, at in taken], np.int64),
                np.array([window.mask[at] for window, at in taken], np.float32),
                np.array([window.epoch[at] for window, at in taken], np.int64),
            )
            for _ in range(min(turns, len(waiting))):
                waiting.popleft().read_on()
    finally:
        readers.end()


class Streams:
    """Keeps the latest stream from one piece that is asked for to the next.

    A data set has nothing to keep it in: each of its iterators only asks for piece after piece.  (A
    ``GeneratorDataset`` would, but the first of them in a process spoils the heap for all that
    computes, see :mod:`harness.distribute.heap`.)  Who asks for what it is not at, such as an
    iterator that was begun anew, gets another in its place: a run trains from one at a time, and
    two would hold twice the memory.  Iterators that take turns get what is right, slowly.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[Hashable, int], Generator[Any, None, None]] = {}

    def ask(
        self, key: Hashable, number: int, begin: Callable[[int], Generator[Any, None, None]]
    ) -> Any:
        """Piece ``number`` of the stream ``key``; ``begin`` makes one that starts with a piece."""
        with self._lock:
            held = self._held.pop((key, number), None)
        if held is None:
            held = begin(number)
        found = next(held)
        with self._lock:
            self._held[key, number + 1] = held
            left = list(self._held)[:-1]
            ended = [self._held.pop(one) for one in left]
        for one in ended:
            one.close()
        return found


class _Window:
    """What a lane gives in a row, in the order in which it is given."""

    def __init__(
        self,
        examples: PackedExamples,
        ranks: NDArray[np.int64],
        mask: NDArray[np.float32],
        epoch: NDArray[np.int64],
    ) -> None:
        packed = examples.packed
        unique, inverse = np.unique(ranks, return_inverse=True)
        positions = examples.selection.positions(unique)
        cuts = pieces(packed, positions) if len(positions) else []
        ends = np.searchsorted(positions, [first + number for first, number in cuts])
        begins = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        piece = np.repeat(np.arange(len(cuts)), ends - begins)
        self.row = sorted_row(positions, len(packed))[inverse].tolist()
        self.mask, self.epoch = mask.tolist(), epoch.tolist()
        self._wanted = [positions[a:b] for a, b in zip(begins, ends, strict=True)]
        self._piece = piece[inverse].tolist()
        self._inside = (np.arange(len(unique)) - begins[piece])[inverse].tolist()
        self._reading: list[Future[list[Any]] | None] = [None] * len(cuts)
        self._read: list[list[Any] | None] = [None] * len(cuts)
        # Padding repeats an example.
        last = np.zeros(len(inverse), bool)
        last[len(inverse) - 1 - np.unique(inverse[::-1], return_index=True)[1]] = True
        self._is_last = last.tolist()

    def needed(self) -> list[tuple[int, int]]:
        """(place of the first of its rows, piece) of each piece."""
        found, first = np.unique(self._piece, return_index=True)
        return sorted(zip(first.tolist(), found.tolist(), strict=True))

    def read(self, piece: int, readers: _Readers) -> None:
        """Has a piece read."""
        self._reading[piece] = readers.read(self._wanted[piece])

    def parsed(self, at: int) -> Any:
        """What was made of the record of a row, to be taken once; waits for its piece."""
        piece, inside = self._piece[at], self._inside[at]
        read = self._read[piece]
        if read is None:
            future = self._reading[piece]
            assert future is not None, "a window is read when it is opened"
            read = self._read[piece] = future.result()
        found = read[inside]
        if self._is_last[at]:
            read[inside] = None  # its memory is there for what is read next
        return found


class _Lane:
    """One lane: its windows in their order."""

    def __init__(
        self,
        lane: int,
        windows: Windows,
        examples: PackedExamples,
        readers: _Readers,
        waiting: deque[_Lane],
    ) -> None:
        self._lane, self._windows, self._examples = lane, windows, examples
        self._readers, self._waiting = readers, waiting
        self._number = int(windows.firsts[lane])
        self._next: _Window | None = None
        self._now = self.open()
        self._at = 0
        self._todo: deque[int] = deque()
        self._due = self._every = 0

    def open(self) -> _Window:
        """The next window, of which nothing is read yet."""
        rows = self._windows.rows(self._lane, self._number)
        self._number += 1
        return _Window(self._examples, *rows)

    def read_on(self) -> None:
        """Has the next window read from now on, while half of what is left of this one is given."""
        if self._next is None:
            self._next = self.open()
            self._todo.extend(piece for _, piece in self._next.needed())
            left = len(self._now.row) - self._at
            self._due, self._every = self._at, left // max(1, 2 * len(self._todo))
            self._read_due()

    def take(self) -> tuple[_Window, int]:
        """The next row: a window and the place in it."""
        # The last window of a lane one example shorter than the others may be empty.
        while self._at == len(self._now.row):
            self.read_on()
            assert self._next is not None, "it was opened"
            self._now, self._next, self._at = self._next, None, 0
            assert not self._todo, "all of it was due before"
            self._waiting.append(self)
        self._at += 1
        if self._todo:
            self._read_due()
        return self._now, self._at - 1

    def _read_due(self) -> None:
        assert self._next is not None, "it was opened"
        while self._todo and self._at >= self._due:
            self._next.read(self._todo.popleft(), self._readers)
            self._due += self._every

    def first(self) -> list[tuple[int, int]]:
        """See :meth:`_Window.needed`; of the window that it begins with."""
        self._waiting.append(self)
        return self._now.needed()

    def read_first(self, piece: int) -> None:
        """Has a piece of that window read."""
        self._now.read(piece, self._readers)


def _begin(lanes: list[_Lane]) -> None:
    """Has the first windows of all lanes read, first what is needed first."""
    needed = [(at, lane, piece) for lane, each in enumerate(lanes) for at, piece in each.first()]
    for _, lane, piece in sorted(needed):
        lanes[lane].read_first(piece)


class _Readers:
    """Threads that read pieces, one after the other, and parse what is in them.

    Not the pool of the standard library, for whose jobs a process waits when it ends: a worker that
    was told to stop leaves at once, whatever is still to be read.
    """

    def __init__(
        self, threads: int, examples: PackedExamples, parse: Callable[[memoryview], Any]
    ) -> None:
        self._packed, self._parse = examples.packed, parse
        self._jobs: queue.SimpleQueue[tuple[Future[list[Any]], NDArray[np.int64]] | None]
        self._jobs = queue.SimpleQueue()
        self._threads = threads
        self._ended = False
        for _ in range(threads):
            threading.Thread(target=self._work, name="harness-read", daemon=True).start()

    def read(self, positions: NDArray[np.int64]) -> Future[list[Any]]:
        """Will hold what was made of the records at ``positions``, ascending and in one piece."""
        future: Future[list[Any]] = Future()
        self._jobs.put((future, positions))
        return future

    def end(self) -> None:
        """Ends the threads; what they have not begun is left undone."""
        self._ended = True
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        room = Room()
        while (job := self._jobs.get()) is not None:
            future, positions = job
            if self._ended:
                future.cancel()
                continue
            try:
                # Parsed one by one, while a record is in the processor's cache.
                records = read_records(self._packed, positions, room)
                future.set_result(list(map(self._parse, records)))
            # Whatever it is, it is raised where the result is asked for.
            except BaseException as error:
                future.set_exception(error)
