"""Following a run until it is over: its files every few seconds, SLURM once a minute."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from harness.errors import ExitCode
from harness.launch.joined import Joined, has_begun
from harness.launch.looking import Look, facts_of, look_closely, look_with
from harness.launch.queue import own_facts
from harness.launch.slurm import Slurm
from harness.launch.telling import expected, text_of
from harness.runs.clock import words_for
from harness.runs.describe import progress
from harness.runs.heartbeat import read_heartbeat
from harness.runs.jobs import last_job
from harness.runs.paths import RunPaths
from harness.runs.registry import BROKEN, RunSummary, summarize

EVERY_S = 3.0
"""Seconds between two looks at the run's files; a heartbeat is written every five."""
INTERRUPTED = 130
_TAIL_LINES = 40


class Watcher:
    """Looks at one run again and again, and asks SLURM at most once in ``queue_s`` seconds.

    Args:
        paths: the run.
        queue_s: seconds between two questions to SLURM.
        slurm: None leaves SLURM out.
        clock: seconds, never going backwards.
    """

    def __init__(
        self,
        paths: RunPaths,
        queue_s: float,
        slurm: Slurm | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.paths = paths
        self._queue_s = queue_s
        self._slurm = slurm
        self._clock = clock
        self._asked_at: float | None = None
        self._asked: tuple[Any, ...] = ()
        self._said: tuple[Any, Any] = (None, None)

    def look(self) -> Look:
        """The run now."""
        row = summarize(self.paths)
        job = None if row.state == BROKEN else last_job(self.paths)
        if job is None or row.state in (BROKEN, "finished"):
            return look_with(self.paths, row, job, None)
        now = self._clock()
        if self._asked_at is None or now - self._asked_at >= self._queue_s:
            facts, note = facts_of([job], self._slurm, who=True)
            self._said = own_facts(row.name, job, facts.get(job.id)), note
            self._asked_at, self._asked = now, (job.id, row.state, row.attempt)
        facts_now, note = self._said
        # What SLURM said before the attempt that runs now had begun is of the past.
        begun_since = row.state == "running" and self._asked != (job.id, row.state, row.attempt)
        if begun_since or self._asked[0] != job.id:
            facts_now = None
        return look_with(self.paths, row, job, facts_now, note)

    def is_over(self, look: Look) -> bool:
        """Whether nothing more comes of the run by itself."""
        if look.joined.is_live:
            return False
        sure = look.job is None or look.facts is not None
        return sure or look.joined.state in ("finished", "failed", "cancelled", BROKEN)


def watch(
    paths: RunPaths,
    queue_s: float = 60,
    *,
    slurm: Slurm | None = None,
    ask_slurm: bool = True,
    say: Callable[[str], None] | None = None,
    out: TextIO | None = None,
    every_s: float = EVERY_S,
) -> int:
    """Follows a run until it is over; its exit code.

    Ctrl-C ends the watching and leaves the run alone.

    Args:
        queue_s: seconds between two questions to SLURM at least.
        slurm: by default that of the environment.
        ask_slurm: False leaves SLURM out.
        say: prints a line; by default to ``out``.
        out: where a line that moves is shown if it is a terminal; standard error by default.

    Returns:
        0 when it has finished, 75 when it was stopped or cancelled, 130 after Ctrl-C; of a run that
        has failed or was refused (by spec, data, machine or storage) its own code, else 1.
    """
    asked = (slurm or Slurm()) if ask_slurm else None
    watcher = Watcher(paths, queue_s, asked)
    shown = _Shown(sys.stderr if out is None else out, say)
    try:
        with shown.on_screen():
            look = watcher.look()
            shown.show(look)
            while not watcher.is_over(look):
                time.sleep(every_s)
                look = watcher.look()
                shown.show(look)
    except KeyboardInterrupt:
        where = shlex.quote(str(paths.root))
        shown.say(
            "the watching has ended; the run goes on as before "
            f"(`harness status --watch {where}`, `harness cancel {where}`)"
        )
        return INTERRUPTED
    if look.joined.state == "failed":
        shown.say(text_of(look_closely(look, _TAIL_LINES)))
    return code_of(look)


def code_of(look: Look) -> int:
    """Exit code of a run that is over."""
    if look.joined.state == "finished":
        return int(ExitCode.DONE)
    last = look.row.last
    refused = look.joined.state == "stopped" and last is not None and last.outcome == "refused"
    if look.joined.state not in ("failed", BROKEN) and not refused:
        return int(ExitCode.STOPPED)
    # An attempt of an earlier job does not say why the newest one has failed.
    if last is not None and look.job is not None and last.job is not None:
        last = last if has_begun(last, look.job) else None
    codes = [last.exit_code if last else None, look.facts.exit_code if look.facts else None]
    known = [code for code in codes if code and code in list(ExitCode)]
    return known[0] if known else int(ExitCode.TRAINING_FAILED)


class _Shown:
    """A line for each change; on a terminal also one that moves, below them."""

    def __init__(self, out: TextIO, say: Callable[[str], None] | None) -> None:
        self._out = out
        self._say = say
        self._moves = _is_terminal(out)
        self._last: tuple[Any, ...] | None = None
        self._note: str | None = None

    @contextlib.contextmanager
    def on_screen(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._wipe()

    def show(self, look: Look) -> None:
        if look.note != self._note:
            self.say(look.note or "SLURM answers again")
            self._note = look.note
        beat = (read_heartbeat(look.paths) if look.row.state != BROKEN else None) or {}
        key = (look.joined.state, _lasting(look.joined), look.row.attempt)
        key += (beat.get("phase"), beat.get("epoch")) if look.joined.state == "running" else ()
        line = line_of(look.row, look.joined, beat, look)
        if key != self._last:
            self.say(line)
            self._last = key
        elif self._moves:
            columns = os.get_terminal_size(self._out.fileno()).columns
            self._out.write("\r\x1b[K" + line[: columns - 1])
            self._out.flush()

    def say(self, text: str) -> None:
        self._wipe()
        if self._say is not None:
            self._say(text)
            return
        self._out.write(text + "\n")
        self._out.flush()

    def _wipe(self) -> None:
        if self._moves:
            self._out.write("\r\x1b[K")
            self._out.flush()


def _lasting(joined: Joined) -> str | None:
    """The reason, where it is not one that ages (a last sign of life)."""
    return None if joined.state in ("running", "interrupted") else joined.reason


def line_of(row: RunSummary, joined: Joined, beat: dict[str, Any], look: Look) -> str:
    """``running  step 120/300, epoch 2 of phase head, loss 0.51, about 10 min left``."""
    parts = []
    if joined.state in ("running", "stopping") or (joined.state == "finished" and row.step):
        parts.append(f"step {progress(row)}" if row.step is not None else "before the first step")
    if joined.state == "running":
        if beat.get("phase") is not None:
            parts.append(f"epoch {beat.get('epoch')} of phase {beat['phase']}")
        if beat.get("loss") is not None:
            parts.append(f"loss {beat['loss']:.4g}")
        if beat.get("eta_s") is not None:
            parts.append(f"about {words_for(beat['eta_s'])} left")
    elif joined.reason:
        parts.append(joined.reason)
    facts = look.facts
    if facts is not None and facts.is_waiting and facts.start:
        parts.append(expected(facts.start))
    return f"{joined.state:<10}  {', '.join(parts)}".rstrip()


def _is_terminal(out: TextIO) -> bool:
    """Whether a line can be written over: a terminal, and not a dumb one."""
    try:
        return out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    except ValueError:  # closed
        return False
