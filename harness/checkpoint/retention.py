"""Which checkpoints stay: the newest, those asked for, and one per period for good.  Pure.

The periods follow the convention of ``tf.train.CheckpointManager``, so that its users know what
``keep_every`` does: a checkpoint is kept for good if it was made at least one period after the one
that was kept so before it; for the first of them, after the training began.  The clock is that of
the wall, over all attempts, as the manifests have it; time in which nothing is saved (in the queue)
has no checkpoint to keep.  Nothing else is remembered: the answer is worked out from what is there,
and what it removes changes no later answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Periods:
    """One checkpoint is kept for good every ``every_s`` seconds after ``began_s``.

    Args:
        every_s: longer than 0.
        began_s: when the training began, in seconds since the epoch.
    """

    every_s: float
    began_s: float

    def __post_init__(self) -> None:
        if not self.every_s > 0:
            raise ValueError(f"every_s must be above 0, was {self.every_s}")

    def chosen(self, times: Sequence[tuple[int, float]]) -> set[int]:
        """Steps kept for good, of ``(step, seconds since the epoch)``.

        A clock that was set back, or of another node that is behind, keeps nothing until it has
        caught up.
        """
        kept, last = set(), self.began_s
        for step, time_s in sorted(times):
            if time_s - last >= self.every_s:
                kept.add(step)
                last = time_s
        return kept


def steps_to_keep(
    times: Sequence[tuple[int, float | None]],
    newest: int,
    also: Collection[int] = (),
    periods: Periods | None = None,
) -> set[int]:
    """Steps of the checkpoints that stay.

    Args:
        times: step and time of every checkpoint; the time is None of one whose manifest could not
            be read, which with ``periods`` stays, since nobody can know whether it is one of them.
        newest: how many of the highest steps stay, at least 1.
        also: steps that stay if they are there (the best one).
        periods: None keeps none for good.
    """
    if newest < 1:
        raise ValueError(f"newest must be at least 1, was {newest}")
    steps = sorted(step for step, _ in times)
    kept = {*steps[-newest:], *(step for step in steps if step in also)}
    if periods is not None:
        kept |= periods.chosen([(step, time) for step, time in times if time is not None])
        kept |= {step for step, time in times if time is None}
    return kept
