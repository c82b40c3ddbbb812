"""Computes the features of a frozen backbone once, by all ranks, into the shared cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import tensorflow as tf
import tf_keras

from harness.data.content import examples_in
from harness.data.content_feed import ContentFeed
from harness.data.feature_store import BAD, Entry
from harness.data.known import Known
from harness.data.rows import Listed
from harness.distribute.base import Distribution
from harness.distribute.pace import Pace
from harness.errors import StorageError
from harness.tracing import as_written
from harness.train.feature_filling import Filling

_T = TypeVar("_T")
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
    ) -> bool:
        """Computes the chunks of an entry that are not there, or not what was written.

        Args:
            what: is computed, in words for the user.
            between: called about once a second by all ranks together; what it raises ends the
                computing, and the chunks that are done stay.

        Raises:
            NotKept: on all ranks alike: the cache cannot be written, does not show what others
                wrote, or the features are larger than the type they are to be stored in.

        Returns:
            Whether anything had to be computed.
        """
        missing = self._missing(entry, source)
        if not missing:
            return False
        place = self._distribution.topology
        cut = [len(missing) * rank // place.size for rank in (place.rank, place.rank + 1)]
        filling = Filling(entry, source.known, missing[slice(*cut)])
        batch = source.batch * self._distribution.local_replicas
        most = max(self._distribution.gather(-(-filling.count // batch)))
        listed = Listed(max(1, filling.count), filling.ranks, source.copy)
        batches = source.feed.listed(listed, batch, source.image_size)
        iterator = iter(self._distribution.share(batches))
        began = time.monotonic()
        for done in self._rounds(most, between, filling):
            filling.add(*(np.asarray(each) for each in self._one(iterator)))
            self._progress(what, (done + 1) / most, began)
        filling.finish()
        self._end(entry, filling)
        return True

    def lacks(self, entry: Entry) -> bool:
        """Whether chunks of an entry are not there, as any rank sees it.

        Raises:
            NotKept: on all ranks alike: the cache cannot be looked into.
        """
        return self._distribution.agree(bool(self._together(entry.missing)))

    def _together(self, look: Callable[[], _T]) -> _T:
        """What ``look`` gives on this rank, where the cache fails none of them."""
        found, failure = [], None
        try:
            found.append(look())
        except StorageError as error:
            failure = str(error)
        failures = [each for each in self._distribution.gather(failure) if each]
        if failures:
            raise NotKept(failures[0])
        return found[0]

    def _end(self, entry: Entry, filling: Filling) -> None:
        """All ranks come together; one that has failed ends it for all."""
        failures = [each for each in self._distribution.gather(filling.failure) if each]
        if not failures:
            hidden = self._together(lambda: _still_hidden(entry))
            failures = [each for each in self._distribution.gather(hidden) if each]
        if failures:
            entry.remove(filling.written)
            raise NotKept(failures[0])

    def _missing(self, entry: Entry, source: Source) -> list[int]:
        """Chunks to compute, as rank 0 sees it; each rank looks through a part of the others."""
        place = self._distribution.topology
        missing = set(self._distribution.tell_all(self._together(entry.missing)))
        mine = [n for n in range(place.rank, entry.layout.chunks, place.size) if n not in missing]
        broken, bad = self._together(lambda: _looked_through(entry, mine))
        found = sorted(set().union(*self._distribution.gather(broken)))
        if found:
            self._say(
                f"feature cache: {len(found)} of {entry.layout.chunks} files of {entry.folder} "
                "are not what was written; they are computed again"
            )
        # What could not be read may have been out of reach that day.
        mended = sorted({at // entry.layout.rows for at in _readable(source, bad)})
        again = sorted(set().union(*self._distribution.gather(mended)))
        if again:
            self._say(
                f"feature cache: examples in {len(again)} of {entry.layout.chunks} files of "
                f"{entry.folder} can be read now; their features are computed again"
            )
        return sorted(missing.union(found, again))

    def _rounds(self, most: int, between: Callable[[], None], filling: Filling) -> Iterator[int]:
        """Numbers of rounds, with what is between them; all ranks have as many."""
        pace, done = Pace(agree=self._distribution.first), 0
        while done < most:
            count, began = pace.next(most - done), time.monotonic()
            yield from range(done, done + count)
            pace.done(count, time.monotonic() - began)
            done += count
            if self._distribution.agree(filling.failure is not None):
                return
            between()

    def _progress(self, what: str, share: float, began: float) -> None:
        now = time.monotonic()
        if int((now - began) / _SAY_S) > self._minutes:
            self._say(f"feature cache: {share:.0%} of {what}")
        self._minutes = int((now - began) / _SAY_S)

    # On the devices.

    @as_written
    def _on_all(self, iterator: Iterator[dict[str, tf.Tensor]]) -> tuple[tf.Tensor, ...]:
        return self._distribution.run_sums(self._on_replica, next(iterator))

    @as_written
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


def _looked_through(entry: Entry, numbers: Iterable[int]) -> tuple[list[int], list[int]]:
    """Chunks that are not what was written, and the positions of corrupt examples in the others."""
    broken, bad = [], []
    for number in numbers:
        chunk = entry.read(number)
        if chunk is None:
            broken.append(number)
        else:
            first, _ = entry.layout.span(number)
            bad += (first + np.flatnonzero(chunk.state == BAD)).tolist()
    return broken, bad


def _readable(source: Source, positions: Sequence[int]) -> list[int]:
    """Which of some examples can be read."""
    if not positions:
        return []
    ranks = np.array([source.known.first_from(at) for at in positions], np.int64)
    listed = Listed(len(ranks), lambda at: ranks[at], source.copy)
    found: list[bool] = []
    batch = min(source.batch, len(ranks))
    for rows in source.feed.listed(listed, batch, source.image_size):
        found += rows["good"].numpy().tolist()
        if len(found) >= len(ranks):
            break
    return [at for at, good in zip(positions, found, strict=False) if good]


class NotKept(Exception):
    """Features cannot be kept; says why."""


def _still_hidden(entry: Entry) -> str | None:
    """Why this node does not see all chunks within a minute; None where it does."""
    until = time.monotonic() + _VISIBLE_S
    while missing := entry.missing():
        if time.monotonic() > until:
            return (
                f"a node does not see {len(missing)} of {entry.layout.chunks} files of "
                f"{entry.folder} that other ranks have written; HARNESS_CACHE has to be a "
                "folder on storage that all nodes share"
            )
        time.sleep(0.5)
    return None
