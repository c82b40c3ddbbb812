"""A row of the benches, and how the two sides of it are measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

LEAST_REPEATS = 5
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Row:
    """One comparison.

    ``ours`` and ``theirs`` are medians in one unit, which ``work`` names; ``ratio`` is ours over
    theirs; ``better`` says which way is good and ``target`` what the ratio has to reach;
    ``spread`` is (largest - smallest) / median of the side where that is larger.
    """

    id: str
    work: str
    peer: str
    ours: float
    theirs: float
    target: float
    better: Better
    spread: float
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs

    @property
    def ok(self) -> bool:
        """Whether the target is reached."""
        reached = (
            self.ratio >= self.target if self.better == "higher" else self.ratio <= self.target
        )
        return bool(reached)

    def to_json(self) -> dict[str, Any]:
        """The object of ``build/bench.json``."""
        order = (
            "id",
            "work",
            "peer",
            "ours",
            "theirs",
            "ratio",
            "target",
            "better",
            "ok",
            "spread",
        )
        known = {**asdict(self), "ratio": self.ratio, "ok": self.ok}
        return {key: known[key] for key in (*order, "note")}


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(
    ours: Callable[[], float], theirs: Callable[[], float], repeats: int = LEAST_REPEATS
) -> tuple[float, float, float]:
    """Measures both sides in turn, A B A B ..., so that a drift of the machine meets both.

    Args:
        ours, theirs: each returns one measurement; called once more at first, not counted.
        repeats: counted measurements of each side, 5 or more.

    Returns:
        (median of ours, median of theirs, spread), see :class:`Row`.

    Raises:
        ValueError: fewer than 5 repeats.
    """
    if repeats < LEAST_REPEATS:
        raise ValueError(f"a median of {LEAST_REPEATS} or more is asked for, was {repeats}")
    ours(), theirs()
    a: list[float] = []
    b: list[float] = []
    for _ in range(repeats):
        a.append(ours())
        b.append(theirs())
    return medians(a, b)


def medians(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """What was measured in turn: (median of ours, median of theirs, spread), see :class:`Row`."""
    spread = max((max(x) - min(x)) / statistics.median(x) for x in (ours, theirs))
    return statistics.median(ours), statistics.median(theirs), spread
