"""What a run leaves behind while it trains: written by rank 0, by nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.checkpoint.background import Background
from harness.checkpoint.retention import Periods
from harness.checkpoint.store import Store
from harness.data.media import medium_of
from harness.observe.progress import Progress
from harness.observe.pulse import Heartbeat
from harness.observe.writers import MultiWriter
from harness.runs.attempts import read_attempts
from harness.runs.clock import parse_time
from harness.runs.paths import RunPaths
from harness.spec import Spec
from harness.train.parts import Saver, Watch
from harness.worker.exactness import Exactness
from harness.worker.rhythm import Rhythm
from harness.worker.watch import ProgressAndHeartbeat
from harness.worker.watchdog import allowed_s
from harness.worker.writers import open_writers

if TYPE_CHECKING:
    from harness.worker.account import Attempt
    from harness.worker.attempt import Shown


@dataclass(frozen=True)
class Outside:
    """The parts of a loop that write or show something."""

    saver: Saver
    writer: MultiWriter
    watch: Watch
    exactness: Exactness
    close: Callable[[], None]


def first_rank(
    paths: RunPaths, spec: Spec, attempt: Attempt, shown: Shown, total_steps: int
) -> Outside:
    """Those of rank 0, in the run directory and on the terminal."""
    writer = open_writers(paths, attempt.number, spec, attempt.fence.check)
    unit = medium_of(spec.medium).many
    progress = Progress(total_steps, plain=shown.plain, quiet=shown.quiet, unit=unit)
    heartbeat = Heartbeat(paths, attempt=attempt.number, allowed=attempt.fence.check)
    rhythm, least_s = attempt.ranks.rhythm, spec.cluster.watchdog_s

    def hangs_after() -> float | None:
        return None if least_s is None else allowed_s(least_s, rhythm, attempt.save_s)

    watch = ProgressAndHeartbeat(progress, heartbeat, total_steps, attempt, rhythm, hangs_after)
    store = Store(
        paths.checkpoints,
        keep=spec.checkpoint.keep,
        access=spec.access,
        log=watch.say,
        periods=_periods(paths, spec),
        allowed=attempt.fence.check,
    )
    store.sweep()
    exactness = Exactness(paths, spec.training.deterministic, watch.say)

    saver = Background(store, watch.say, attempt.saved)

    def close() -> None:
        saver.close()
        watch.close()
        writer.close()

    return Outside(saver, writer, watch, exactness, close)


def _periods(paths: RunPaths, spec: Spec) -> Periods | None:
    """From the run's first attempt on: a restart does not begin anew."""
    every = spec.checkpoint.keep_every
    if every is None:
        return None
    # The attempt that asks has begun itself; the line of one before may be torn.
    began = next(one.began for one in read_attempts(paths) if one.began is not None)
    return Periods(every.value, parse_time(began).timestamp())


def other_rank(spec: Spec, rhythm: Rhythm) -> Outside:
    """Those of every other rank: it takes part in everything and writes nothing."""
    silent = _Silent(rhythm)
    exactness = Exactness(None, spec.training.deterministic, silent.say)
    return Outside(silent, MultiWriter([]), silent, exactness, lambda: None)


class _Silent:
    """A :class:`Saver` and :class:`Watch` whose work rank 0 does for all."""

    def __init__(self, rhythm: Rhythm) -> None:
        self._rhythm = rhythm

    def save(self, step: int, *arguments: Any, **options: Any) -> None:
        """Rank 0 writes the checkpoint."""

    def check(self) -> None:
        """Rank 0 sees whether it could."""

    def settle(self) -> None:
        """Rank 0 waits for it."""

    def restore(self, step: int | None = None) -> Any:
        """Rank 0 reads the checkpoint and tells the others."""
        raise AssertionError("only rank 0 reads checkpoints")

    def continues(self, step: int) -> None:
        """Rank 0 says it."""

    def goes_back(self, step: int) -> None:
        """Rank 0 says it."""
        self._rhythm.begins()

    def phase(self, name: str, start: int, end: int) -> None:
        """Rank 0 says it."""
        self._rhythm.begins()

    def update(
        self, step: int, *, phase: str, epoch: int, examples_per_s: float, loss: float
    ) -> None:
        """Rank 0 shows it."""
        self._rhythm.place()

    def alive(self) -> None:
        """Rank 0 notes it."""
        self._rhythm.place()

    def say(self, text: str) -> None:
        """Rank 0 says it."""
