"""What a user sees while it trains: a bar on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from harness.observe.eta import Eta
from harness.runs.clock import words_for

LINE_EVERY_S = 10.0


@dataclass(frozen=True)
class _Now:
    """The last update."""

    step: int
    epoch: int
    text: str


class Progress:
    """Shows step, phase, epoch, loss, speed and the time that is left.

    On a terminal a bar (rich); otherwise plain lines, at most one in ten seconds and one at the
    end of each epoch.  Progress is a convenience: when its stream breaks (the terminal went
    away), it falls silent and training goes on.

    Args:
        total_steps: steps of the whole run.
        out: where to, default standard error.
        plain: lines instead of a bar; None means lines unless ``out`` is a terminal.
        quiet: prints nothing at all.
        unit: what is counted per second.
        clock: seconds, never going backwards.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        out: TextIO | None = None,
        plain: bool | None = None,
        quiet: bool = False,
        unit: str = "images",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_steps = total_steps
        self._out = sys.stderr if out is None else out
        self._unit = unit
        self._clock = clock
        self._eta = Eta(clock=clock)
        self._phase = ""
        self._now: _Now | None = None
        self._printed: _Now | None = None
        self._printed_at: float | None = None
        self._silent = quiet
        self._bar: _Bar | None = None
        if not quiet and not (is_plain(self._out) if plain is None else plain):
            self._bar = _Bar(total_steps, self._out)

    @property
    def eta_s(self) -> float | None:
        """Seconds that are left, None while nothing is known."""
        return self._eta.seconds_left(self.total_steps)

    def phase(self, name: str, start: int, end: int) -> None:
        """A phase begins; it goes from step ``start`` to step ``end``."""
        self._finish_epoch()
        self._phase = name
        self.say(f"phase {name}: steps {start} to {end}")

    def update(
        self,
        step: int,
        *,
        epoch: int,
        examples_per_s: float | None = None,
        loss: float | None = None,
        extra: Mapping[str, float | str] | None = None,
    ) -> None:
        """``step`` steps of the run are done; ``epoch`` counts from 0."""
        self._eta.seen(step)
        if self._now is not None and epoch != self._now.epoch:
            self._finish_epoch()
        text = self._fit(self._describe(epoch, examples_per_s, loss, extra or {}))
        self._now = _Now(step, epoch, text)
        if self._bar is not None:
            self._guarded(self._bar.show, step, text)
        elif self._due():
            self._line(self._now)

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._guarded(self._print if self._bar is None else self._bar.say, self._fit(text))

    def close(self) -> None:
        """Shows the last state and leaves the terminal as it was; twice is fine."""
        self._finish_epoch()
        bar, self._bar = self._bar, None
        if bar is not None:
            self._guarded(bar.close)
        self._silent = True

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _describe(
        self,
        epoch: int,
        examples_per_s: float | None,
        loss: float | None,
        extra: Mapping[str, float | str],
    ) -> str:
        parts = [self._phase, f"epoch {epoch + 1}"]
        if loss is not None:
            parts.append(f"loss {loss:.4g}")
        parts += [f"{name} {_short(value)}" for name, value in extra.items()]
        if examples_per_s is not None and math.isfinite(examples_per_s):
            parts.append(f"{examples_per_s:.0f} {self._unit}/s")
        left = self.eta_s
        if left is not None:
            parts.append(f"{words_for(left)} left")
        return "  ".join(part for part in parts if part)

    def _fit(self, text: str) -> str:
        """``text`` with what the stream cannot show (LANG=C) replaced."""
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        return text.encode(encoding, "replace").decode(encoding)

    def _due(self) -> bool:
        return self._printed_at is None or self._clock() - self._printed_at >= LINE_EVERY_S

    def _finish_epoch(self) -> None:
        """The last line of an epoch is shown even if it came soon after another one."""
        if self._bar is None and self._now is not None and self._now is not self._printed:
            self._line(self._now)

    def _line(self, now: _Now) -> None:
        share = f"{100 * now.step / self.total_steps:.0f}%" if self.total_steps else "-"
        self._guarded(self._print, f"step {now.step}/{self.total_steps} ({share})  {now.text}")
        self._printed, self._printed_at = now, self._clock()

    def _print(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def _guarded(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._silent:
            return
        try:
            call(*arguments)
        except OSError:
            # The terminal went away (EIO, EPIPE).  That must not end a training, and there is
            # nowhere left to say it.
            self._silent = True
        except ValueError:
            if not self._out.closed:
                raise
            self._silent = True


class _Bar:
    """One rich bar."""

    def __init__(self, total_steps: int, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._rich = RichProgress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(file=out),
            refresh_per_second=4,
        )
        self._task = self._rich.add_task("", total=total_steps, text="starting")
        self._rich.start()

    def show(self, step: int, text: str) -> None:
        self._rich.update(self._task, completed=step, text=text)

    def say(self, text: str) -> None:
        self._rich.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._rich.stop()


def is_plain(out: TextIO) -> bool:
    """Whether a stream gets lines: it is no terminal, or one that cannot move its cursor."""
    try:
        terminal = out.isatty()
    except ValueError:  # closed
        return True
    return not terminal or os.environ.get("TERM", "dumb") == "dumb"


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
