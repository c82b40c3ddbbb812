"""Shows where the training is: a progress bar for the eye, a heartbeat for other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.observe.progress import Progress
from harness.observe.pulse import Heartbeat

if TYPE_CHECKING:
    from harness.worker.attempt import Attempt


class ProgressAndHeartbeat:
    """The :class:`~harness.train.parts.Watch` of a run on this machine.

    Args:
        progress: bar or plain lines.
        heartbeat: rate-limited writer of ``heartbeat.json``.
        total_steps: of the whole run as planned.
        attempt: its account learns which steps were done.
    """

    def __init__(
        self, progress: Progress, heartbeat: Heartbeat, total_steps: int, attempt: Attempt
    ) -> None:
        self._progress = progress
        self._attempt = attempt
        self._heartbeat = heartbeat
        self._total = total_steps
        self._last: dict[str, Any] = {}

    def continues(self, step: int) -> None:
        """See the protocol."""
        self._attempt.from_step = self._attempt.step = step
        self.say(f"continues from the checkpoint of step {step}")

    def phase(self, name: str, start: int, end: int) -> None:
        """See the protocol."""
        self._progress.phase(name, start, end)

    def update(
        self, step: int, *, phase: str, epoch: int, examples_per_s: float, loss: float
    ) -> None:
        """See the protocol."""
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
        self._heartbeat.beat(**self._last)

    def alive(self) -> None:
        """See the protocol."""
        step = self._attempt.step
        self._heartbeat.beat(**(self._last or {"step": step, "total_steps": self._total}))

    def close(self) -> None:
        """The last state of all, for those who look on, and an end to the bar."""
        self._progress.close()
        if self._last:
            self._heartbeat.beat(now=True, **self._last)

    def say(self, text: str) -> None:
        """See the protocol."""
        self._progress.say(text)
