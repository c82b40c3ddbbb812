"""Shows where the training is: a progress bar for the eye, a heartbeat for other processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.observe.progress import Progress
from harness.observe.pulse import Heartbeat

if TYPE_CHECKING:
    from harness.worker.account import Attempt
    from harness.worker.rhythm import Rhythm


class ProgressAndHeartbeat:
    """The :class:`~harness.train.parts.Watch` of a run on this machine.

    Args:
        progress: bar or plain lines.
        heartbeat: rate-limited writer of ``heartbeat.json``.
        total_steps: of the whole run as planned.
        attempt: its account learns which steps were done.
        rhythm: learns when they were.
        hangs_after: seconds without a step after which the run hangs; None: it is not watched.
    """

    def __init__(
        self,
        progress: Progress,
        heartbeat: Heartbeat,
        total_steps: int,
        attempt: Attempt,
        rhythm: Rhythm,
        hangs_after: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._progress = progress
        self._attempt, self._rhythm, self._hangs_after = attempt, rhythm, hangs_after
        self._heartbeat = heartbeat
        self._total = total_steps
        self._last: dict[str, Any] = {}

    def continues(self, step: int) -> None:
        """See the protocol."""
        self._attempt.from_step = self._attempt.step = step
        self.say(f"continues from the checkpoint of step {step}")

    def goes_back(self, step: int) -> None:
        """See the protocol."""
        self._rhythm.begins()
        self._attempt.step = step
        self._attempt.from_step = min(self._attempt.from_step, step)
        self._last = {}
        self._beat(now=True)

    def phase(self, name: str, start: int, end: int) -> None:
        """See the protocol."""
        self._rhythm.begins()
        self._progress.phase(name, start, end)
        self._beat(now=True)  # what follows takes longer, and who looks on is to know it

    def update(
        self, step: int, *, phase: str, epoch: int, examples_per_s: float, loss: float
    ) -> None:
        """See the protocol."""
        self._rhythm.place()
        self._attempt.step = step
        self._progress.update(step, epoch=epoch, examples_per_s=examples_per_s, loss=loss)
        self._last = {
            "step": step,
            "total_steps": self._total,
            "phase": phase,
            "epoch": epoch,
            "examples_per_s": examples_per_s,
            "loss": loss,
            "eta_s": self._progress.eta_s,
        }
        self._beat()

    def alive(self) -> None:
        """See the protocol."""
        self._rhythm.place()
        self._beat()

    def close(self) -> None:
        """The last state of all, for those who look on, and an end to the bar."""
        self._progress.close()
        if self._last and self._attempt.fence.newer() is None:
            self._beat(now=True)

    def _beat(self, *, now: bool = False) -> None:
        known = self._last or {"step": self._attempt.step, "total_steps": self._total}
        self._heartbeat.beat(now=now, **known, hangs_after_s=self._hangs_after())

    def say(self, text: str) -> None:
        """See the protocol."""
        self._progress.say(text)
