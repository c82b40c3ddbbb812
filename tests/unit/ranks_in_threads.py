"""Ranks as threads of one process, whose sums meet at a barrier."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from harness.distribute.together import Together
from harness.distribute.topology import Topology

_T = TypeVar("_T")
WAIT_S = 60.0


class Meeting:
    """Where the ranks of one start bring their vectors."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.brought: dict[int, np.ndarray] = {}
        self.barrier = threading.Barrier(size, timeout=WAIT_S)

    def summed(self, rank: int, values: np.ndarray) -> np.ndarray:
        self.brought[rank] = values
        self.barrier.wait()
        shapes = {(one.shape, one.dtype) for one in self.brought.values()}
        assert len(shapes) == 1, f"the ranks are not at the same sum: {shapes}"
        total = self.brought[0].copy()
        for other in range(1, self.size):
            total += self.brought[other]
        self.barrier.wait()
        return total


class InThread(Together):
    """One rank of them, with one replica."""

    local_replicas = 1

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.topology = Topology(rank, meeting.size, "srun", rank, meeting.size)
        self.replicas = meeting.size
        self._meeting = meeting
        self.sums = 0

    def sum_ranks(self, values: np.ndarray) -> np.ndarray:
        assert values.ndim == 1, values.shape
        assert values.dtype in (np.int32, np.int64, np.float64), values.dtype
        self.sums += 1
        return self._meeting.summed(self.topology.rank, values)


def on_all(size: int, call: Callable[[InThread], _T]) -> list[_T]:
    """What ``call`` gives on every rank, by rank; an error of one ends them all."""
    meeting = Meeting(size)

    def one(rank: int) -> Any:
        try:
            return call(InThread(rank, meeting))
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        running = [pool.submit(one, rank) for rank in range(size)]
    errors = [error for each in running if (error := each.exception()) is not None]
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return [each.result() for each in running]
