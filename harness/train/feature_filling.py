"""The features of one rank, gathered into the files of the cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.feature_store import ABSENT, BAD, GOOD, Chunk, Entry
from harness.data.known import Known
from harness.errors import DataError, StorageError


class Filling:
    """The chunks of one rank, filled in their order and written as soon as they are full.

    Attributes:
        count: examples in all of them.
        written: numbers of the chunks that are done.
        failure: why no more can be written; None as long as that is not so.
    """

    def __init__(self, entry: Entry, known: Known, numbers: Sequence[int]) -> None:
        self._entry, self._known = entry, known
        spans = [entry.layout.span(number) for number in numbers]
        self._firsts = [known.first_from(first) for first, _ in spans]
        counts = [
            known.first_from(last) - first
            for (_, last), first in zip(spans, self._firsts, strict=True)
        ]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._numbers, self._done = list(numbers), 0
        self._parts: list[tuple[np.ndarray, ...]] = []
        self.count = int(self._ends[-1]) if counts else 0
        self.written: list[int] = []
        self.failure: str | None = None

    def ranks(self, at: np.ndarray) -> np.ndarray:
        """Ranks of the examples in the split, by their numbers among all that are computed."""
        if not self.count:
            return np.zeros_like(at)
        chunk = np.searchsorted(self._ends, at, side="right")
        begins = np.concatenate([[0], self._ends[:-1]])
        return np.asarray(self._firsts)[chunk] + at - begins[chunk]

    def add(self, *part: np.ndarray) -> None:
        """Takes the next examples: features, weights and goodness; more are padding."""
        part = tuple(each[: self.count - self._done] for each in part)
        self._done += len(part[0])
        self._parts.append(part)
        while self._goes_on and self._ends[len(self.written)] <= self._done:
            self._try_to_write()

    def finish(self) -> None:
        """Writes the chunks behind the last example, which have none of this split.

        Nothing where examples are still to come: another rank has failed, and ended it for all.
        """
        while self._goes_on and self._done == self.count:
            self._try_to_write()

    @property
    def _goes_on(self) -> bool:
        return self.failure is None and len(self.written) < len(self._numbers)

    def _try_to_write(self) -> None:
        try:
            self._write(self._numbers[len(self.written)])
        except (StorageError, DataError) as error:
            self.failure = str(error)

    def _write(self, number: int) -> None:
        layout, at_chunk = self._entry.layout, len(self.written)
        first, last = layout.span(number)
        begin = int(self._ends[at_chunk - 1]) if at_chunk else 0
        end = int(self._ends[at_chunk])
        features, weights, good = self._taken(end - begin)
        ranks = self.ranks(np.arange(begin, end))
        at = self._known.at(self._known.numbers(ranks)).position - first
        chunk = Chunk(
            np.zeros((last - first, *layout.shape), layout.dtype),
            np.full(last - first, ABSENT, np.uint8),
            np.zeros(last - first, np.float32),
        )
        chunk.features[at] = _stored(features, layout.dtype)
        chunk.state[at] = np.where(good > 0, GOOD, BAD)
        chunk.weight[at] = weights
        self._entry.write(number, chunk)
        self._entry.touch()
        self.written.append(number)

    def _taken(self, count: int) -> tuple[np.ndarray, ...]:
        """The first ``count`` examples that were added and not written."""
        if not self._parts:  # of a chunk without examples
            shape = (0, *self._entry.layout.shape)
            return (np.zeros(shape), *(np.zeros(0, kind) for kind in ("f4", "i4")))
        whole = [np.concatenate(each) for each in zip(*self._parts, strict=True)]
        self._parts = [tuple(each[count:] for each in whole)]
        return tuple(each[:count] for each in whole)


def _stored(features: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        stored = features.astype(dtype)
    if np.any(np.isinf(stored) & np.isfinite(features)):
        raise DataError(
            f"features of the backbone are too large for {dtype}",
            got=f"{np.abs(features[np.isfinite(features)]).max():.4g}",
            allowed=f"up to {np.finfo(dtype).max:.4g}",
            action="set dtype: float32 there",
            path="training.feature_cache.dtype",
        )
    return stored
