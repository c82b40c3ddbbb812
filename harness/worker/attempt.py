"""One attempt of a run: locked, accounted for however it ends.

TensorFlow is imported only after the stop signals are heard.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from harness.distribute.topology import Topology
from harness.errors import HarnessError, StoppedEarly, TrainingError
from harness.runs.lock import RunLock
from harness.runs.paths import RunPaths
from harness.runs.record import mend_record, read_record
from harness.spec import Trust, spec_from_file_resolved
from harness.worker.account import Attempt, Leaving, leave_unbegun
from harness.worker.deadline import Deadline, job_end
from harness.worker.environment import import_tensorflow, prepare
from harness.worker.hanging import Hanging
from harness.worker.ranks import Ranks
from harness.worker.signals import StopSignals
from harness.worker.translation import translated
from harness.worker.watchdog import Watchdog


@dataclass(frozen=True)
class Shown:
    """How a run is shown: who says a line, plain lines or a bar, or nothing at all."""

    say: Callable[[str], None]
    plain: bool | None = None
    quiet: bool = False


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
    leaving = Leaving(shown.say)
    leave = leaving.now if owns_process or ranks.topology.size > 1 else None
    with ExitStack() as stack:
        # Before an attempt begins, so that none is left without a word.
        stop = stack.enter_context(StopSignals(leave, shown.say))
        mend_record(paths, shown.say)
        stack.enter_context(RunLock(paths))
        attempt = leaving.begin(lambda: Attempt(paths, shown.say, code_of, ranks))
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
            _part(attempt, ranks, known, code_of)
            if known is error:
                raise
            raise known from error
        ranks.ending()
        attempt.ended("finished", "")
        ranks.dismiss()
        return final


def _part(
    attempt: Attempt, ranks: Ranks, known: HarnessError, code_of: Callable[[int], int]
) -> None:
    """The end of an attempt that did not finish: noted, and told to the other ranks."""
    stopped = isinstance(known, StoppedEarly)
    if stopped:
        ranks.all_done()
    attempt.broken_off(known)
    if stopped:
        ranks.dismiss()
    else:
        ranks.break_up(str(known), code_of(int(known.exit_code)))


def _follow(paths: RunPaths, trust: Trust, ranks: Ranks, shown: Shown) -> dict[str, float]:
    """The attempt on every other rank, which writes nothing."""

    def forward(name: str, hurries: bool) -> None:
        if not ranks.members:  # nobody else knows of this rank yet
            leave_unbegun(name, shown.say)
        ranks.forward_stop(name, hurries)

    try:
        with StopSignals(None, shown.say, forward) as stop:
            ranks.meet(os.environ, read_record(paths)["run_id"])
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
