"""The end of a job's time, known ahead: the run stops by itself while it can still save.

SLURM's signal before the limit is asked for when a job is submitted, and says nothing of how long
the run then takes to stop: a large model may need longer to be written than the signal is early,
and a site's own script may ask for none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

JOB_END = "HARNESS_JOB_END"
"""Seconds since 1970 at which the job is ended; the batch script asks SLURM for it."""

LEAST_S = 15.0
"""For what is not measured: the barrier at the end, and the account of the attempt."""
UNKNOWN_SAVE_S = 15.0
"""Of a save, before there was one."""


def job_end(environment: Mapping[str, str]) -> float | None:
    """When the job of this process is ended, in seconds since 1970; None where that is not known.

    Also ``SLURM_JOB_END_TIME``, which newer versions of SLURM set.
    """
    for name in (JOB_END, "SLURM_JOB_END_TIME"):
        text = environment.get(name, "")
        if text.isascii() and text.isdigit():
            return float(text)
    return None


def needed_s(longest_s: float, save_s: float | None) -> float:
    """Seconds that a run needs to stop, from any moment on.

    Args:
        longest_s: from one place at which it can stop to the next one.
        save_s: the longest save; None before there was one.
    """
    # Both twice: one save may be under way when the last one is asked for, and things vary.
    return LEAST_S + 2 * longest_s + 2 * (UNKNOWN_SAVE_S if save_s is None else save_s)


class Deadline:
    """Context manager: a thread that asks once, when there is no more time than is needed.

    Args:
        end: see :func:`job_end`; what has passed already is of something else, and ignored.
        needs: seconds to stop in, asked for again and again.
        ask: called with the reason in words.
        now: seconds since 1970.
        every_s: between two looks.
    """

    def __init__(
        self,
        end: float | None,
        needs: Callable[[], float],
        ask: Callable[[str], None],
        *,
        now: Callable[[], float] = time.time,
        every_s: float = 1.0,
    ) -> None:
        self._end, self._needs, self._ask = end, needs, ask
        self._now, self._every_s = now, every_s
        self._over = threading.Event()

    def __enter__(self) -> Deadline:
        if self._end is not None and self._end > self._now():
            threading.Thread(target=self._look, name="harness-deadline", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _look(self) -> None:
        assert self._end is not None, "there is no thread without"
        while not self._over.wait(self._every_s):
            left = self._end - self._now()
            if left <= self._needs():
                self._ask(f"its time limit, in {max(0.0, left):.0f} s")
                return
