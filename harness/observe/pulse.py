"""The heartbeat of a training, written no more often than watchers need it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness.runs.heartbeat import write_heartbeat
from harness.runs.paths import RunPaths

EVERY_S = 5.0


class Heartbeat:
    """Writes ``heartbeat.json`` at most once in ``every_s`` seconds.

    Args:
        paths: the run.
        attempt: number of the attempt.
        every_s: seconds between two writes.
        clock: seconds, never going backwards.
        allowed: called before it writes; raises where it must not.
    """

    def __init__(
        self,
        paths: RunPaths,
        attempt: int,
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        allowed: Callable[[], None] = lambda: None,
    ) -> None:
        self._paths = paths
        self._attempt = attempt
        self._every_s = every_s
        self._clock = clock
        self._allowed = allowed
        self._last: float | None = None

    def beat(self, *, now: bool = False, **fields: Any) -> bool:
        """Writes if it is time to, or with ``now`` in any case; returns whether it wrote.

        Args:
            now: for the first and the last beat and a change of phase.
            fields: ``step, total_steps, phase, epoch, examples_per_s, loss, eta_s``.

        Raises:
            StorageError: it cannot be written.
            FencedOff: another start of the run has taken over.
        """
        at = self._clock()
        if not now and self._last is not None and at - self._last < self._every_s:
            return False
        self._allowed()
        write_heartbeat(self._paths, attempt=self._attempt, **fields)
        self._last = at
        return True
