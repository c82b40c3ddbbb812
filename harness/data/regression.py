"""Targets that are numbers: one column of a manifest for each.  Free of TensorFlow.

A model learns them in units of their own spread, see :class:`Scaling`.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import neg
from typing import TYPE_CHECKING, Any, Protocol

from harness.data.scan import refuse
from harness.errors import DataError, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Columns = Sequence[Sequence[float]]
LARGEST = 3.4028234663852886e38
"""The largest number of float32, in which predictions are made."""
_LEAST_SPREAD = 2.0**-126
"""The smallest normal number of float32."""
# Python also reads 1_000, inf, nan and the digits of other scripts, and no table means those.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def number_of(cell: str) -> float | None:
    """The number in a cell that is not missing; None where it is none that float32 can hold."""
    if _NUMBER.fullmatch(cell) is None:
        return None
    number = float(cell)
    return number if abs(number) <= LARGEST else None


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each target, in its own units, over the training examples.

    A target t is learned as ``(t - mean) / std``, so that targets of any units weigh alike in the
    loss and a learning rate means the same for all.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def standardised(self, numbers: NDArray[np.float64]) -> NDArray[np.float32]:
        """Targets in their own units [n, targets] as they are learned.

        In float64 until then: of large numbers that differ little float32 loses the difference.
        """
        import numpy as np  # which a plan does without

        scaled = (numbers - np.asarray(self.mean)) / np.asarray(self.std)
        return scaled.astype(np.float32)

    def to_json(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """By the names of the targets, for the run's record; gives the same bits back."""
        each = zip(names, self.mean, self.std, strict=True)
        return {name: {"mean": mean, "std": std} for name, mean, std in each}

    @classmethod
    def of_json(cls, recorded: Mapping[str, Any], names: Sequence[str]) -> Scaling:
        """What :meth:`to_json` gave, for ``names``.

        Raises:
            DataError: the record is of other targets.
        """
        if sorted(recorded) != sorted(names):
            raise DataError(
                "the run has learned other targets",
                got=", ".join(names),
                allowed=", ".join(recorded),
                action="name these columns, or begin a new run",
                path="data.columns",
            )
        mean = tuple(float(recorded[name]["mean"]) for name in names)
        return cls(mean, tuple(float(recorded[name]["std"]) for name in names))


@dataclass(frozen=True)
class Numbers:
    """What is known of one target: how many examples have it, and how it is spread.

    ``std`` is the population's (divided by ``known``).  All four are None where none is known.
    """

    known: int
    least: float | None = None
    mean: float | None = None
    most: float | None = None
    std: float | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> Numbers:
        """Those that are not nan; exact sums, so their order does not matter."""
        held = [value for value in values if not math.isnan(value)]
        return cls.of_pieces(lambda: iter([[held]]), 1)[0]

    @classmethod
    def of_pieces(cls, pieces: Callable[[], Iterable[Columns]], width: int) -> list[Numbers]:
        """The same of several targets that are not held at once.

        Args:
            pieces: begins to give them, of each target those of a piece, none of them nan; called
                twice.
            width: how many targets there are.
        """
        bounds = [(math.inf, -math.inf)] * width
        known, parts = [0] * width, [list[float]() for _ in range(width)]
        for piece in pieces():
            for at, values in enumerate(piece):
                known[at] += len(values)
                least, most = bounds[at]
                low, high = min(values, default=least), max(values, default=most)
                bounds[at] = min(least, low), max(most, high)
                parts[at] += exact_parts(values)
        mean = [math.fsum(some) / max(1, count) for some, count in zip(parts, known, strict=True)]
        parts = [[] for _ in range(width)]
        for piece in pieces():
            for at, values in enumerate(piece):
                parts[at] += exact_parts([(value - mean[at]) ** 2 for value in values])
        spread = [math.sqrt(math.fsum(parts[at]) / max(1, known[at])) for at in range(width)]
        found = zip(known, bounds, mean, spread, strict=True)
        return [cls(n, low, mid, high, std) if n else cls(0) for n, (low, high), mid, std in found]


def exact_parts(values: Sequence[float]) -> list[float]:
    """Some few numbers whose sum is that of ``values`` without any rounding.

    ``math.fsum`` rounds once, so what it leaves is found by adding up again without its result.
    """
    parts: list[float] = []
    while rest := math.fsum(chain(values, map(neg, parts))):
        parts.append(rest)
    return parts


@dataclass(frozen=True)
class Values:
    """The targets of some examples, in the user's units, nan where not known.

    Attributes:
        numbers: all of an example, then all of the next.
        width: how many each example has.
        scaling: how they are standardised; None as long as that is not known.
    """

    numbers: array[float]
    width: int
    scaling: Scaling | None = None

    def __len__(self) -> int:
        return len(self.numbers) // self.width

    def __getitem__(self, rows: slice) -> list[str]:
        """A text for each of these examples, equal only where all its numbers are."""
        start, end, _ = rows.indices(len(self))
        return [
            " ".join(map(repr, self.numbers[row * self.width : (row + 1) * self.width]))
            for row in range(start, end)
        ]

    def subset(self, rows: Iterable[int]) -> Values:
        """Those of some examples."""
        width, picked = self.width, array("d")
        for row in rows:
            picked.extend(self.numbers[row * width : (row + 1) * width])
        return replace(self, numbers=picked)

    def each(self) -> list[Numbers]:
        """What is known of each target."""
        return [Numbers.of(self.numbers[at :: self.width]) for at in range(self.width)]

    def known(self) -> list[int]:
        """For each target the examples that have it."""
        return [numbers.known for numbers in self.each()]

    def standardised(self) -> NDArray[np.float32]:
        """float32 [n, width]: by ``scaling``, nan where not known."""
        import numpy as np  # which a plan does without

        assert self.scaling is not None, "who opens the data sets gives the scaling of training"
        numbers = np.asarray(self.numbers, np.float64).reshape(-1, self.width)
        return self.scaling.standardised(numbers)


class Spread(Protocol):
    """The targets of some examples."""

    def each(self) -> list[Numbers]:
        """What is known of each target."""


def scaling_of(values: Spread, names: Sequence[str]) -> Scaling:
    """Mean and deviation of each target over what is known of it.

    Args:
        values: those of the training examples.
        names: of the targets.

    Raises:
        DataError: a target is not known of any example, or is the same for all.
    """
    found = values.each()
    refuse(
        Problem(
            f"the training examples hold nothing to learn of the target {name!r}",
            got="no value" if not one.known else f"{one.least!r} for all {one.known} that have one",
            allowed="values that differ",
            action="check that this is the right column, or leave it out",
            path="data.columns",
        )
        for name, one in zip(names, found, strict=True)
        if one.std is None or one.least == one.most or one.std < _LEAST_SPREAD
    )
    return Scaling(
        tuple(one.mean for one in found if one.mean is not None),
        tuple(one.std for one in found if one.std is not None),
    )
