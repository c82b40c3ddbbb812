"""Sees a run that stands still where it should not, says where each rank stands, and ends it.

A rank that hangs keeps all others in their next reduction, where no wish to stop is heard.  A
thread of each process looks how long the last place was ago at which it could stop, and compares it
with what was usual.  Rank 0 then asks all others where they are: the thread that answers lives on
in a rank whose training stands, but not in one that was stopped or lost its machine.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.worker.rhythm import Rhythm

SLOWER = 20
"""Times the longest of the last steps; more is not slowness any more."""
COMPILING = 6
"""Times as long is the first call of a phase given, which compiles."""
SAVES = 3
"""Times the longest save: the next one waits for it."""
_LOOKS = 50
_ANSWER_S = 5.0
_GRACE_S = 30.0
_FOREIGN = ("site-packages", "dist-packages", "<")
_PACKAGE = Path(__file__).resolve().parent.parent
_STDERR = 2


class Stand(NamedTuple):
    """Where a rank is.

    Attributes:
        places: how many it has passed at which it could stop.
        where: what its training thread does.
        ours: whether that is harness's, where ranks wait for one another, and not a user's.
    """

    places: int
    where: str
    ours: bool


def allowed_s(least_s: float, rhythm: Rhythm, save_s: float) -> float:
    """Seconds without a place from which on a process hangs.

    Args:
        least_s: ``cluster.watchdog_s``.
        save_s: of the longest save.
    """
    if rhythm.compiles:
        return COMPILING * least_s
    return max(least_s, SLOWER * rhythm.longest_s, SAVES * save_s)


def verdict(names: Sequence[str], stands: Mapping[int, Stand]) -> str:
    """Which ranks keep the others, in words.

    Args:
        names: of all ranks, in their order.
        stands: of those that have answered.
    """
    silent = [name for rank, name in enumerate(names) if rank not in stands]
    if silent:
        return f"{_few(silent)} does not answer: it was stopped, or its machine hangs"
    furthest = max(stand.places for stand in stands.values())
    waiting = [stand.where for stand in stands.values() if stand.ours]
    usual = Counter(waiting or [stand.where for stand in stands.values()]).most_common(1)[0][0]
    behind = [rank for rank, stand in stands.items() if stand.places < furthest]
    own = [rank for rank, stand in stands.items() if waiting and not stand.ours]
    apart = behind or own or [rank for rank, stand in stands.items() if stand.where != usual]
    if not apart:
        return f"all stand at {usual}" if len(names) > 1 else f"it stands at {usual}"
    told = [f"{names[rank]} stands at {stands[rank].where}" for rank in apart]
    return f"{_few(told)}; the others wait at {usual}"


def _few(words: Sequence[str]) -> str:
    more = f" and {len(words) - 8} more" if len(words) > 8 else ""
    return ", ".join(words[:8]) + more


def standing(rhythm: Rhythm) -> Stand:
    """Where the main thread of this process is: its innermost line that is of no library."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        code, line = frame.f_code, frame.f_lineno
        file = Path(code.co_filename)
        ours = file.is_relative_to(_PACKAGE)  # which may be installed among the libraries
        if ours or not any(name in code.co_filename for name in _FOREIGN):
            return Stand(rhythm.places, f"{file.name}:{line} ({code.co_name})", ours)
        frame = frame.f_back
    return Stand(rhythm.places, "a place that Python does not see", True)


class Watchdog:
    """Context manager around the training of one process.

    Args:
        rhythm: of the process; looked at from the first phase on.
        least_s: ``cluster.watchdog_s``; None watches nothing.
        save_s: gives the seconds of the longest save.
        hangs: called once, on the watching thread, with the seconds that nothing was done.
    """

    def __init__(
        self,
        rhythm: Rhythm,
        least_s: float | None,
        save_s: Callable[[], float],
        hangs: Callable[[float], None],
    ) -> None:
        self._rhythm, self._least_s = rhythm, least_s
        self._save_s, self._hangs = save_s, hangs
        self._over = threading.Event()

    def __enter__(self) -> Watchdog:
        if self._least_s is not None:
            threading.Thread(target=self._look, name="harness-watchdog", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _look(self) -> None:
        assert self._least_s is not None, "there is no thread without"
        every_s = min(5.0, self._least_s / _LOOKS)
        before = time.monotonic()
        while not self._over.wait(every_s):
            now = time.monotonic()
            if now - before > _GRACE_S + every_s:
                # This process itself stood still: SLURM had suspended its job, say.
                self._rhythm.forgive(now - before)
            before = now
            since_s = self._rhythm.since_s
            if self._rhythm.begun and since_s > allowed_s(
                self._least_s, self._rhythm, self._save_s()
            ):
                self._hangs(since_s)
                return


def write_stacks() -> None:
    """Writes where each thread of this process is to standard error, which a job's log keeps."""
    faulthandler.dump_traceback(_STDERR, all_threads=True)


def wait_for_end() -> None:
    """Gives rank 0 the time to end this process; it may hang itself."""
    time.sleep(_GRACE_S)


def gather_stands(
    ask: Callable[[], None], own: Stand, answers: Mapping[int, Stand], size: int
) -> dict[int, Stand]:
    """Rank 0 asks all others, and takes what has come in a few seconds.

    Args:
        answers: grows while it waits.
    """
    ask()
    until = time.monotonic() + _ANSWER_S
    while len(answers) < size - 1 and time.monotonic() < until:
        time.sleep(0.05)
    return {0: own, **answers}
