"""The account of an attempt: how it began and ended, whoever ends it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import NoReturn

from harness.distribute.members import Lost
from harness.errors import ExitCode, HarnessError
from harness.runs.attempts import begin_attempt, end_attempt, job_facts
from harness.runs.fence import Fence
from harness.runs.files import tail_lines
from harness.runs.marks import mark_failed
from harness.runs.paths import RunPaths
from harness.worker.deadline import needed_s
from harness.worker.ranks import Ranks

_LAST_LINES = 5


class Attempt:
    """The account of one attempt: written once, by whoever ends it.

    Args:
        paths: the run.
        say: prints a line for the user.
        code_of: gives the exit code of a process that leaves, from the one of its outcome.
        ranks: the other ranks, who leave with this one.
    """

    def __init__(
        self,
        paths: RunPaths,
        say: Callable[[str], None],
        code_of: Callable[[int], int],
        ranks: Ranks,
    ) -> None:
        self.paths = paths
        self.say = say
        self.code_of = code_of
        self.ranks = ranks
        self.number = begin_attempt(paths, {"argv": sys.argv, **job_facts(os.environ)})
        self.fence = Fence(paths, self.number)
        self.from_step = 0
        self.step = 0
        self._save_s: float | None = None
        # A job that is started again goes on with the logs of its start before.
        logs = {rank: self._log(rank) for rank in range(1, ranks.topology.size)}
        self._begins = {rank: log.stat().st_size for rank, log in logs.items() if log.exists()}

    def saved(self, seconds: float) -> None:
        """Learns how long a save took."""
        self._save_s = max(seconds, self._save_s or 0.0)

    @property
    def save_s(self) -> float:
        """Of the longest save; 0 before there was one."""
        return self._save_s or 0.0

    def needed_s(self) -> float:
        """Seconds in which it can stop, from any moment on."""
        return needed_s(self.ranks.rhythm.longest_s, self._save_s)

    def ended(self, outcome: str, message: str, exit_code: int | None = None) -> None:
        """Notes how the attempt ended, unless another one has taken over."""
        if self.fence.newer() is not None:
            return
        end_attempt(
            self.paths,
            self.number,
            outcome,
            self.from_step,
            max(self.step, self.from_step),
            message,
            exit_code=exit_code,
        )

    def broken_off(self, error: HarnessError) -> None:
        """Notes an error.

        Only training that went wrong marks the run as FAILED.  What storage, data or machine
        refused leaves it open: the same command tries again, from the last checkpoint.
        """
        self._broken_off(str(error), int(error.exit_code))

    def hung(self, message: str) -> int:
        """Notes that the training stood still; the code with which all leave."""
        self.ended("interrupted", message)
        return self.code_of(int(ExitCode.STOPPED))

    def lost(self, lost: Lost) -> int:
        """Notes that a rank has failed or vanished; the code with which all leave.

        One that vanished was killed or its node died: the next attempt may do better.
        """
        said = f"{lost}{self._last_lines(lost.rank)}"
        if lost.message is None or lost.exit_code is None:
            self.ended("interrupted", said)
            return self.code_of(int(ExitCode.STOPPED))
        self._broken_off(said, lost.exit_code)
        return self.code_of(lost.exit_code)

    def _broken_off(self, message: str, code: int) -> None:
        if self.fence.newer() is not None:
            return
        failed = code == ExitCode.TRAINING_FAILED
        outcome = "stopped" if code == ExitCode.STOPPED else "refused"
        self.ended("failed" if failed else outcome, message, code)
        if failed:
            mark_failed(self.paths, message, attempt=self.number, step=self.step)

    def _last_lines(self, rank: int) -> str:
        """What a rank has printed last in this attempt, as far as it is to be had."""
        lines = tail_lines(self._log(rank), _LAST_LINES, begin=self._begins.get(rank, 0))
        return f"; its last lines: {' | '.join(lines)}" if lines else ""

    def _log(self, rank: int) -> Path:
        """Where the job, if this is one, keeps what a rank prints to standard error."""
        return self.paths.job_log(str(job_facts(os.environ).get("job")), rank, "err")

    def leave_now(self, reason: str) -> None:
        """Ends the process at once: there is nothing to save, or the user insists."""
        code = self.code_of(int(ExitCode.STOPPED))
        try:
            self.ranks.ending()
            self.ended("requeue", f"{reason} before the next save")
            self.say(
                f"harness: stopped by {reason}; what was saved stays; next: run the same command "
                "again to continue"
            )
            sys.stderr.flush()
            self.ranks.break_up(f"it was stopped by {reason}", code)
        finally:  # a full disk or a closed terminal must not keep the process alive
            os._exit(code)


class Leaving:
    """What a stop signal does while there is nothing to save: the process ends at once.

    Args:
        say: tells the user something, in a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._begins = Lock()
        self._attempt: Attempt | None = None

    def begin(self, make: Callable[[], Attempt]) -> Attempt:
        """The attempt that ``make`` begins; who leaves meanwhile waits until it can end it."""
        with self._begins:
            self._attempt = make()
        return self._attempt

    def now(self, reason: str) -> None:
        """Ends the process, and the attempt if one has begun."""
        with self._begins:
            if self._attempt is None:
                leave_unbegun(reason, self._say)
        self._attempt.leave_now(reason)


def leave_unbegun(reason: str, say: Callable[[str], None]) -> NoReturn:
    """Ends the process at once, before an attempt has begun: there is nothing to account for."""
    try:
        say(f"harness: stopped by {reason} before it began; next: run the same command again")
        sys.stderr.flush()
    finally:
        os._exit(int(ExitCode.STOPPED))
