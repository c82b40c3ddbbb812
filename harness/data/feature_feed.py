"""Batches of features in the order of training, in place of the examples themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from harness.data.content import FEATURES
from harness.data.corrupt import CorruptRecorder
from harness.data.feature_read import FeatureReader
from harness.data.feature_store import GOOD
from harness.data.known import Known
from harness.data.lanes import check_replicas, replica_rows
from harness.data.order import Order, start_of
from harness.data.resampling import Resampling
from harness.data.rows import ENDLESS, parted, plain

_ROWS, _BYTES = 4096, 64 << 20
"""Most rows that are looked up at once, and most bytes of their features."""
_READY = 16
_KINDS = {"mask": tf.float32, "weight": tf.float32, "index": tf.int64, FEATURES: tf.float32}


class FeatureFeed:
    """Batches of one split, as :class:`harness.data.pipeline.Feed` gives them, but that they hold
    ``features``, float32 [b, ...], where those hold examples.

    Args:
        known: looks up the examples.
        readers: of the features of the examples as they are, or of each changed copy of them: in
            epoch e those of copy e modulo their number are taken.
        blame: name and fault of an example that is corrupt, by its row and name.
        recorder: hears of corrupt examples; None lets them pass unrecorded.
        order: of training.
        class_weights: one a class, by which weights are multiplied; None is 1.
        resampling: which examples make up an epoch of training; None takes each once.
    """

    def __init__(
        self,
        known: Known,
        readers: Sequence[FeatureReader],
        *,
        examples: int,
        blame: Callable[[int, str], tuple[str, str]],
        recorder: CorruptRecorder | None = None,
        order: Order | None = None,
        class_weights: Sequence[float] | None = None,
        resampling: Resampling | None = None,
    ) -> None:
        self._known, self._readers, self._examples = known, tuple(readers), examples
        self._blame, self._recorder, self._order = blame, recorder, order
        self._resampling = resampling
        self._pass: tuple[tuple[int, int, int], tf.data.Dataset] | None = None
        self._class_weights = (
            None if class_weights is None else np.asarray(class_weights, np.float32)
        )
        one = known.at(known.numbers(np.zeros(1, np.int64)))
        self._label = tf.as_dtype(one.label.dtype)
        self._several = list(one.label.shape[1:])
        self._shape = list(self._readers[0].entry.layout.shape)

    def training(
        self, epoch: int, step: int, rank: int, ranks: int, *, parts: int = 1, devices: int = 1
    ) -> tf.data.Dataset:
        """The batches of one rank from (epoch, step) on, endless over epochs.

        See :meth:`harness.data.pipeline.Feed.training`.
        """
        order = self._order
        assert order is not None, "only asked of training examples"
        check_replicas(order.lanes, ranks, order.global_batch)
        lanes, batch = order.lanes // ranks, order.global_batch // ranks
        steps = self._steps(batch)

        def some(first: np.int64) -> tuple[np.ndarray, ...]:
            epochs, inside = np.divmod(first + np.arange(steps), order.steps_per_epoch)
            canonical, mask = order.batch(epochs, inside, rank * lanes, lanes)
            epoch = np.array(np.broadcast_to(epochs[:, None], canonical.shape))
            found = (parted(each, parts, devices) for each in (canonical, mask, epoch))
            return self._rows(*(each.reshape(-1) for each in found))

        numbers = tf.data.Dataset.range(start_of(order, epoch, step), ENDLESS, steps)
        return self._batches(numbers, some, steps * parts, batch // parts)

    def evaluation(self, batch_size: int, rank: int = 0, ranks: int = 1) -> tf.data.Dataset:
        """All examples once, in canonical order; the last batch is padded with mask 0.

        The latest is kept, see :meth:`harness.data.pipeline.Feed.evaluation`.
        """
        asked = (batch_size, rank, ranks)
        if self._pass is None or self._pass[0] != asked:
            self._pass = asked, self._one_pass(*asked)
        return self._pass[1]

    def _one_pass(self, batch_size: int, rank: int, ranks: int) -> tf.data.Dataset:
        start, end = replica_rows(batch_size, rank, ranks)
        steps = self._steps(end - start)

        def some(first: np.int64) -> tuple[np.ndarray, ...]:
            at = int(first) + np.arange(steps)[:, None] * batch_size + np.arange(start, end)
            at = at.reshape(-1)
            mask = (at < self._examples).astype(np.float32)
            at = np.minimum(at, self._examples - 1)
            return self._rows(at, mask, np.zeros_like(at), resampled=False)

        numbers = tf.data.Dataset.range(0, self._examples, steps * batch_size)
        return self._batches(numbers, some, steps, end - start)

    def _steps(self, batch: int) -> int:
        """Batches that are looked up at once."""
        row_bytes = 4 * max(1, int(np.prod(self._shape)))
        return max(1, min(_ROWS, _BYTES // row_bytes) // batch)

    def _rows(
        self, ranks: np.ndarray, mask: np.ndarray, epoch: np.ndarray, *, resampled: bool = True
    ) -> tuple[np.ndarray, ...]:
        """Label, and what :data:`_KINDS` names, of examples by their ranks."""
        if resampled and self._resampling is not None:
            numbers, epoch = self._resampling.rows(ranks, epoch)
        else:
            numbers = self._known.numbers(ranks)
        found = self._known.at(numbers)
        features = np.empty((len(ranks), *self._shape), np.float32)
        state, weight = np.empty(len(ranks), np.uint8), np.empty(len(ranks), np.float32)
        copies = epoch % len(self._readers)
        for copy in np.unique(copies).tolist():
            mine = np.flatnonzero(copies == copy)
            taken = self._readers[copy].take(found.position[mine])
            features[mine], state[mine], weight[mine] = taken
        if found.weight is not None:
            weight = found.weight
        if self._class_weights is not None and found.label.dtype.kind == "i":
            weight = weight * self._class_weights[found.label]
        is_good = state == GOOD
        self._record(found.row[~is_good & (mask > 0)])
        mask = mask * is_good * found.usable
        return found.label, mask.astype(np.float32), weight, found.row, features

    def _record(self, rows: np.ndarray) -> None:
        if self._recorder is None:
            return
        for row in np.unique(rows).tolist():
            self._recorder.add(*self._blame(row, self._known.name(row)))

    def _batches(
        self,
        numbers: tf.data.Dataset,
        some: Callable[[np.int64], tuple[np.ndarray, ...]],
        batches: int,
        batch: int,
    ) -> tf.data.Dataset:
        """What ``some`` gives for each number, cut into batches.

        Args:
            some: see :meth:`_rows`; of ``batches * batch`` rows.
        """
        kinds = {"label": self._label, **_KINDS}
        shapes = {"label": self._several, FEATURES: self._shape}

        @plain
        def look_up(first: tf.Tensor) -> dict[str, tf.Tensor]:
            found = tf.numpy_function(some, [first], list(kinds.values()))
            return {
                name: tf.reshape(each, [batches, batch, *shapes.get(name, [])])
                for name, each in zip(kinds, found, strict=True)
            }

        options = tf.data.Options()
        options.deterministic = True
        options.autotune.enabled = False
        cut = numbers.map(look_up).prefetch(1).unbatch()
        return cut.prefetch(_READY).with_options(options)
