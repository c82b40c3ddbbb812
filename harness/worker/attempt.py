"""One attempt of a run: locked, accounted for however it ends.

TensorFlow is imported only after the stop signals are heard.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack

from harness.errors import ExitCode, HarnessError, StoppedEarly
from harness.runs.attempts import begin_attempt, end_attempt, job_facts
from harness.runs.lock import RunLock
from harness.runs.marks import mark_failed
from harness.runs.paths import RunPaths
from harness.spec import Trust, spec_from_file_resolved
from harness.worker.environment import import_tensorflow, prepare
from harness.worker.signals import StopSignals
from harness.worker.translation import translated


def _stopped() -> int:
    return int(ExitCode.STOPPED)


class Attempt:
    """The account of one attempt: written once, by whoever ends it.

    Args:
        paths: the run.
        say: prints a line for the user.
        leave_code: gives the exit code of a process that is stopped with nothing to save.
    """

    def __init__(
        self,
        paths: RunPaths,
        say: Callable[[str], None],
        leave_code: Callable[[], int] = _stopped,
    ) -> None:
        self.paths = paths
        self.say = say
        self.leave_code = leave_code
        self.number = begin_attempt(paths, {"argv": sys.argv, **job_facts(os.environ)})
        self.from_step = 0
        self.step = 0

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
        failed = error.exit_code == ExitCode.TRAINING_FAILED
        outcome = "stopped" if isinstance(error, StoppedEarly) else "refused"
        self.ended("failed" if failed else outcome, str(error), int(error.exit_code))
        if failed:
            mark_failed(self.paths, str(error), attempt=self.number, step=self.step)

    def leave_now(self, reason: str) -> None:
        """Ends the process at once: there is nothing to save, or the user insists."""
        try:
            self.ended("requeue", f"{reason} before the next save")
            self.say(
                f"harness: stopped by {reason}; what was saved stays; next: run the same command "
                "again to continue"
            )
            sys.stderr.flush()
        finally:  # a full disk or a closed terminal must not keep the process alive
            os._exit(self.leave_code())


def run_attempt(
    paths: RunPaths,
    trust: Trust,
    *,
    say: Callable[[str], None],
    owns_process: bool,
    plain: bool | None = None,
    quiet: bool = False,
    leave_code: Callable[[], int] = _stopped,
) -> dict[str, float]:
    """Trains the run in ``paths`` from where it stands to its end; returns the final figures.

    Args:
        owns_process: the process ends with the run, so a stop before the first step may leave
            at once; False raises StoppedEarly instead.
        plain: plain lines instead of a progress bar; None decides by the terminal.
        quiet: shows nothing.
        leave_code: gives the exit code of a process that leaves before the first step.

    Raises:
        HarnessError: see each class; the attempt is accounted for in any case.
    """
    with ExitStack() as stack:
        stack.enter_context(RunLock(paths))
        attempt = Attempt(paths, say, leave_code)
        leave = attempt.leave_now if owns_process else None
        stop = stack.enter_context(StopSignals(leave, say))
        try:
            prepare(os.environ, say)
            import_tensorflow(paths.log)
            final = _train(paths, attempt, trust, stop, plain, quiet)
        except HarnessError as error:
            attempt.broken_off(error)
            raise
        except BaseException as error:
            known = translated(error, f"run again with --run-dir {paths.root}")
            attempt.broken_off(known)
            raise known from error
        attempt.ended("finished", "")
        return final


def _train(
    paths: RunPaths,
    attempt: Attempt,
    trust: Trust,
    stop: StopSignals,
    plain: bool | None,
    quiet: bool,
) -> dict[str, float]:
    spec = spec_from_file_resolved(paths.spec)
    from harness.worker.plugins import load_run_plugins
    from harness.worker.training import train_run

    load_run_plugins(paths, trust)
    return train_run(paths, spec, attempt, stop, trust, dict(os.environ), plain=plain, quiet=quiet)
