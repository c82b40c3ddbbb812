"""Computes the features of a frozen backbone once, by all ranks, into the shared cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras

from harness.data.content import examples_in
from harness.data.content_feed import ContentFeed
from harness.data.feature_store import ABSENT, BAD, GOOD, Chunk, Entry
from harness.data.known import Known
from harness.data.rows import Listed
from harness.distribute.base import Distribution
from harness.distribute.pace import Pace
from harness.errors import DataError, StorageError

_VISIBLE_S = 60.0
"""How long a network file system may take to show what another node has written."""
_SAY_S = 60.0


@dataclass(frozen=True)
class Source:
    """What the features of one entry are computed from.

    Attributes:
        feed: gives the examples.
        known: looks them up.
        batch: examples of one call on each device.
        image_size: height and width in pixels; None of what is no picture.
        copy: number of the augmented copy, by which its draws are made.
    """

    feed: ContentFeed
    known: Known
    batch: int
    image_size: int | None
    copy: int = 0


class Extraction:
    """Brings entries of the cache to completion.  All ranks call it in the same order.

    Args:
        backbone: examples to features, in inference mode.
        say: tells the user something, in a line.
    """

    def __init__(
        self, backbone: tf_keras.Model, distribution: Distribution, say: Callable[[str], None]
    ) -> None:
        self._backbone, self._distribution, self._say = backbone, distribution, say
        self._one = tf.function(self._on_all, reduce_retracing=True)
        self._minutes = 0

    def complete(
        self, entry: Entry, source: Source, what: str, between: Callable[[], None]
    ) -> None:
        """Computes the chunks of an entry that are not there, or not what was written.

        Args:
            what: is computed, in words for the user.
            between: called about once a second by all ranks together; what it raises ends the
                computing, and the chunks that are done stay.

        Raises:
            DataError: the features are larger than the type they are to be stored in.
            StorageError: the cache cannot be written, or does not show what others wrote.
        """
        missing = self._missing(entry)
        if not missing:
            return
        place = self._distribution.topology
        cut = [len(missing) * rank // place.size for rank in (place.rank, place.rank + 1)]
        filling = _Filling(entry, source.known, missing[slice(*cut)])
        batch = source.batch * self._distribution.local_replicas
        most = max(self._distribution.gather(-(-filling.count // batch)))
        listed = Listed(max(1, filling.count), filling.ranks, source.copy)
        batches = source.feed.listed(listed, batch, source.image_size)
        iterator = iter(self._distribution.share(batches))
        began = time.monotonic()
        for done in self._rounds(most, between):
            filling.add(*(np.asarray(each) for each in self._one(iterator)))
            self._progress(what, (done + 1) / most, began)
        filling.finish()
        self._distribution.barrier()
        _wait_until_whole(entry)

    def _missing(self, entry: Entry) -> list[int]:
        """Chunks to compute, as rank 0 sees it; each rank looks through a part of the others."""
        place = self._distribution.topology
        missing = set(self._distribution.tell_all(entry.missing()))
        mine = range(place.rank, entry.layout.chunks, place.size)
        broken = [n for n in mine if n not in missing and entry.read(n) is None]
        found = sorted(set().union(*self._distribution.gather(broken)))
        if found:
            self._say(
                f"feature cache: {len(found)} of {entry.layout.chunks} files of {entry.folder} "
                "are not what was written; they are computed again"
            )
        return sorted(missing.union(found))

    def _rounds(self, most: int, between: Callable[[], None]) -> Iterator[int]:
        """Numbers of rounds, with what is between them; all ranks have as many."""
        pace, done = Pace(agree=self._distribution.first), 0
        while done < most:
            count, began = pace.next(most - done), time.monotonic()
            yield from range(done, done + count)
            pace.done(count, time.monotonic() - began)
            done += count
            between()

    def _progress(self, what: str, share: float, began: float) -> None:
        now = time.monotonic()
        if int((now - began) / _SAY_S) > self._minutes:
            self._say(f"feature cache: {share:.0%} of {what}")
        self._minutes = int((now - began) / _SAY_S)

    # On the devices.

    def _on_all(self, iterator: Iterator[dict[str, tf.Tensor]]) -> tuple[tf.Tensor, ...]:
        return self._distribution.run_sums(self._on_replica, next(iterator))

    def _on_replica(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """Features, weights and goodness (0 or 1) of this rank's batch."""
        features = tf.cast(self._backbone(examples_in(batch), training=False), tf.float32)
        found = (features, batch["weight"], tf.cast(batch["good"], tf.int32))
        replicas = self._distribution.local_replicas
        if replicas == 1:
            return found
        # Each replica's rows at their place among zeros: the sum of all is all of them.
        own = self._distribution.replica() % replicas
        return tuple(_among(each, own, replicas) for each in found)


def _among(rows: tf.Tensor, own: tf.Tensor, replicas: int) -> tf.Tensor:
    """[b, ...] -> [replicas * b, ...], zeros but for this replica's rows."""
    count = tf.shape(rows)[0]  # a strategy of several workers knows no static one
    paddings = [[own * count, (replicas - 1 - own) * count]] + [[0, 0]] * (rows.shape.rank - 1)
    return tf.pad(rows, paddings)


class _Filling:
    """The chunks of one rank, filled in their order and written as soon as they are full."""

    def __init__(self, entry: Entry, known: Known, numbers: Sequence[int]) -> None:
        self._entry, self._known = entry, known
        spans = [entry.layout.span(number) for number in numbers]
        self._firsts = [known.first_from(first) for first, _ in spans]
        counts = [
            known.first_from(last) - first
            for (_, last), first in zip(spans, self._firsts, strict=True)
        ]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._numbers, self._done, self._written = list(numbers), 0, 0
        self._parts: list[tuple[np.ndarray, ...]] = []
        self.count = int(self._ends[-1]) if counts else 0
        """Examples in all of them."""

    def ranks(self, at: np.ndarray) -> np.ndarray:
        """Ranks of the examples in the split, by their numbers among all that are computed."""
        if not self._numbers:
            return at
        chunk = np.searchsorted(self._ends, at, side="right")
        begins = np.concatenate([[0], self._ends[:-1]])
        return np.asarray(self._firsts)[chunk] + at - begins[chunk]

    def add(self, *part: np.ndarray) -> None:
        """Takes the next examples: features, weights and goodness; more are padding."""
        part = tuple(each[: self.count - self._done] for each in part)
        self._done += len(part[0])
        self._parts.append(part)
        while self._written < len(self._numbers) and self._ends[self._written] <= self._done:
            self._write()

    def finish(self) -> None:
        """Writes the chunks behind the last example, which have none of this split."""
        while self._written < len(self._numbers):
            self._write()

    def _write(self) -> None:
        layout, number = self._entry.layout, self._numbers[self._written]
        first, last = layout.span(number)
        begin = int(self._ends[self._written - 1]) if self._written else 0
        end = int(self._ends[self._written])
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
        self._written += 1

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


def _wait_until_whole(entry: Entry) -> None:
    """Raises StorageError where the chunks of other nodes do not show within a minute."""
    until = time.monotonic() + _VISIBLE_S
    while missing := entry.missing():
        if time.monotonic() > until:
            raise StorageError(
                "this node does not see features that other ranks have written",
                got=f"{len(missing)} of {entry.layout.chunks} files of {entry.folder}",
                allowed="a cache on storage that all nodes share",
                action="set HARNESS_CACHE to a folder on shared storage, or "
                "training.feature_cache: off",
            )
        time.sleep(0.5)
