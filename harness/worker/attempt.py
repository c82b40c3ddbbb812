"""One attempt of a run: locked, accounted for however it ends.

TensorFlow is imported only after the stop signals are heard.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.distribute.members import Lost
from harness.distribute.topology import Topology
from harness.errors import ExitCode, HarnessError, StoppedEarly, TrainingError
from harness.runs.attempts import begin_attempt, end_attempt, job_facts
from harness.runs.files import tail_lines
from harness.runs.lock import RunLock
from harness.runs.marks import mark_failed
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.spec import Trust, spec_from_file_resolved
from harness.worker.deadline import Deadline, job_end, needed_s
from harness.worker.environment import import_tensorflow, prepare
from harness.worker.hanging import Hanging
from harness.worker.ranks import Ranks
from harness.worker.signals import StopSignals
from harness.worker.translation import translated
from harness.worker.watchdog import Watchdog

_LAST_LINES = 5


@dataclass(frozen=True)
class Shown:
    """How a run is shown: who says a line, plain lines or a bar, or nothing at all."""

    say: Callable[[str], None]
    plain: bool | None = None
    quiet: bool = False


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
        """Notes how the attempt ended."""
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


def run_attempt(
    paths: RunPaths,
    trust: Trust,
    *,
    say: Callable[[str], None],
    owns_process: bool,
    plain: bool | None = None,
    quiet: bool = False,
    code_of: Callable[[int], int] = int,
    ranks: Ranks | None = None,
) -> dict[str, float]:
    """Trains the run in ``paths`` from where it stands to its end; returns the final figures.

    Args:
        owns_process: the process ends with the run, so a stop before the first step may leave
            at once; False raises StoppedEarly instead.  Several ranks always own theirs.
        plain: plain lines instead of a progress bar; None decides by the terminal.
        quiet: shows nothing.
        code_of: gives the exit code of a process whose attempt has written how it ended, from the
            code that belongs to it.
        ranks: all processes of this start; None for one.

    Raises:
        HarnessError: see each class; the attempt is accounted for in any case.
    """
    ranks = ranks or Ranks(Topology(), say)
    shown = Shown(say, plain, quiet)
    if not ranks.first:
        return _follow(paths, trust, ranks, shown)
    try:
        return _lead(paths, trust, ranks, shown, code_of, owns_process)
    except HarnessError as error:
        ranks.turn_away(os.environ, read_record(paths)["run_id"], error)
        raise


def _lead(
    paths: RunPaths,
    trust: Trust,
    ranks: Ranks,
    shown: Shown,
    code_of: Callable[[int], int],
    owns_process: bool,
) -> dict[str, float]:
    """The attempt on rank 0, which alone writes."""
    with ExitStack() as stack:
        stack.enter_context(RunLock(paths))
        attempt = Attempt(paths, shown.say, code_of, ranks)
        leave = attempt.leave_now if owns_process or ranks.topology.size > 1 else None
        stop = stack.enter_context(StopSignals(leave, shown.say))
        end, ask = job_end(os.environ), partial(stop.heard, hurries=False)
        stack.enter_context(Deadline(end, attempt.needed_s, ask))
        ranks.on_stop(stop.heard)
        ranks.keep_account(attempt.lost)
        try:
            ranks.meet(os.environ, read_record(paths)["run_id"])
            final = _train(paths, attempt, trust, stop, ranks, shown)
        except BaseException as error:
            if not isinstance(error, HarnessError):
                ranks.look_for_cause()
            known = translated(error, f"run again with --run-dir {paths.root}")
            ranks.ending()
            if isinstance(known, StoppedEarly):
                ranks.all_done()
            attempt.broken_off(known)
            if isinstance(known, StoppedEarly):
                ranks.dismiss()
            else:
                ranks.break_up(str(known), code_of(int(known.exit_code)))
            if known is error:
                raise
            raise known from error
        ranks.ending()
        attempt.ended("finished", "")
        ranks.dismiss()
        return final


def _follow(paths: RunPaths, trust: Trust, ranks: Ranks, shown: Shown) -> dict[str, float]:
    """The attempt on every other rank, which writes nothing."""
    ranks.meet(os.environ, read_record(paths)["run_id"])
    try:
        with StopSignals(None, shown.say, ranks.forward_stop) as stop:
            final = _train(paths, None, trust, stop, ranks, shown)
    except BaseException as error:
        known = translated(error, "see the log of this rank")
        if isinstance(known, StoppedEarly):
            ranks.dismiss()
        else:
            ranks.failed(known)
            known = with_first(known, error, ranks)
        if known is error:
            raise
        raise known from error
    ranks.dismiss()
    return final


def with_first(known: HarnessError, error: BaseException, ranks: Ranks) -> HarnessError:
    """The error of another rank than the first, once it has tried to report it.

    A collective breaks as soon as rank 0 dies, at times before its loss is seen: then the error
    says nothing of what happened, and nobody is there to hear it.
    """
    if ranks.noted or isinstance(error, HarnessError) or not ranks.members:
        return known
    return TrainingError(
        f"this rank leaves, since {ranks.members[0].name} has gone",
        got=str(known),
        action="see the log of rank 0, and run again",
    )


def _train(
    paths: RunPaths,
    attempt: Attempt | None,
    trust: Trust,
    stop: StopSignals,
    ranks: Ranks,
    shown: Shown,
) -> dict[str, float]:
    prepare(os.environ, shown.say)
    import_tensorflow(paths.log if ranks.first else None)
    spec = spec_from_file_resolved(paths.spec)
    from harness.worker.plugins import load_run_plugins
    from harness.worker.training import train_run

    load_run_plugins(paths, trust)
    account = None if attempt is None else attempt.hung
    save_s = (lambda: 0.0) if attempt is None else (lambda: attempt.save_s)
    hangs = Hanging(ranks, account, shown.say, stop.may_leave)
    with Watchdog(ranks.rhythm, spec.cluster.watchdog_s, save_s, hangs):
        return train_run(paths, spec, attempt, stop, trust, dict(os.environ), ranks, shown)
