"""Rows out of packed shards, in the same order as from the folder that was packed.

Each lane reads its windows one after the other, ahead of the loop: the blocks of a window are read
in large pieces, in the order of the files, and shuffled in memory.  So memory is that of two
windows of each lane, however large the set is, and any step can be the first one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from harness.data.corrupt import probe_content
from harness.data.decode import decode
from harness.data.order import Order, canonical_position, sorted_row
from harness.data.packed_examples import PackedExamples
from harness.data.packed_read import Damaged, Piece
from harness.data.rows import ENDLESS, Chunk, Share, plain
from harness.data.windows import Windows

_FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string, ""),
    "image/filename": tf.io.FixedLenFeature([], tf.string, ""),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64, 0),
}
_EVALUATION_BYTES = 64 << 20


class PackedRows:
    """The :class:`~harness.data.rows.Rows` of a packed set."""

    def __init__(self, examples: PackedExamples) -> None:
        self._examples = examples
        with tf.device("/CPU:0"):
            self._label_of = tf.constant(examples.label_of, tf.int32)

    def training(self, order: Order, share: Share) -> tf.data.Dataset:
        """See the protocol."""
        windows = Windows(order, share.start)
        with tf.device("/CPU:0"):
            window_of = tf.constant(windows.firsts)

        def read(lane: np.int64, number: np.int64) -> tuple[np.ndarray, ...]:
            return self._records(*windows.rows(int(lane), int(number)))

        @plain
        def lane_rows(lane: tf.Tensor) -> tf.data.Dataset:
            numbers = tf.data.Dataset.range(window_of[lane], ENDLESS)
            return numbers.map(plain(lambda n: self._known(read, lane, n))).prefetch(1).unbatch()

        lanes = tf.data.Dataset.range(share.first_lane, share.first_lane + share.lanes)
        rows = lanes.interleave(
            lane_rows,
            cycle_length=share.lanes,
            block_length=order.per_lane,
            num_parallel_calls=share.lanes,
            deterministic=True,
        )
        batch = order.per_lane * share.lanes
        arranged = share.arrange(np.arange(batch)[None])[0]
        if (arranged != np.arange(batch)).any():
            pick = plain(lambda rows: {key: tf.gather(rows[key], arranged) for key in rows})
            rows = rows.batch(batch, drop_remainder=True).map(pick).unbatch()
        return rows.batch(share.chunk, drop_remainder=True)

    def evaluation(self, batch: int, start: int, end: int, chunk: int) -> tf.data.Dataset:
        """See the protocol; in canonical order."""
        n = len(self._examples)
        size = max(1.0, self._examples.example_bytes) * (end - start)
        at_once = batch * max(1, int(_EVALUATION_BYTES / size))

        def read(first: np.int64) -> tuple[np.ndarray, ...]:
            firsts = np.arange(int(first), min(int(first) + at_once, n), batch)
            at = (firsts[:, None] + np.arange(start, end)).reshape(-1)
            rank = np.minimum(at, n - 1)
            return self._records(rank, (at < n).astype(np.float32), np.zeros_like(rank))

        windows = tf.data.Dataset.range(0, n, at_once)
        windows = windows.map(plain(lambda first: self._known(read, first))).prefetch(1)
        return windows.unbatch().batch(chunk, drop_remainder=True)

    def image(self, example: Chunk) -> tf.Tensor:
        """See the protocol."""
        return decode(example["content"])

    def blame(self, row: int, name: str) -> tuple[str, str]:
        """See the protocol; where the name is lost it says where the record stands."""
        packed = self._examples.packed
        position = int(canonical_position(np.array([row]), len(packed))[0])
        try:
            record = Piece(packed, position, 1).record(0)
        except Damaged as fault:
            return name or packed.place(position), str(fault)
        features = tf.train.Example.FromString(record).features.feature
        return name, probe_content(features["image/encoded"].bytes_list.value[0])

    def _known(self, read: Callable[..., tuple[np.ndarray, ...]], *where: tf.Tensor) -> Chunk:
        """All that is known of the examples of a window; an empty record where one is damaged."""
        # What is worked out and read is behind one operation: each lane has an iterator of its
        # own, for which TensorFlow prepares all others anew.
        kinds = (tf.string, tf.int64, tf.float32, tf.int64)
        record, row, mask, epoch = tf.numpy_function(read, where, kinds)
        for vector in (record, row, mask, epoch):
            vector.set_shape([None])
        parsed = tf.io.parse_example(record, _FEATURES)
        label = tf.cast(parsed["image/class/label"], tf.int32)
        return {
            "row": row,
            "mask": mask,
            "epoch": epoch,
            "name": parsed["image/filename"],
            "label": tf.gather(self._label_of, label),
            "weight": tf.ones_like(mask),
            "content": parsed["image/encoded"],
        }

    def _records(
        self, ranks: np.ndarray, mask: np.ndarray, epoch: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        if not len(ranks):  # the last window of a lane one example shorter than the others
            return np.empty(0, object), ranks, mask, epoch
        records, positions = self._examples.records(ranks)
        return records, sorted_row(positions, len(self._examples.packed)), mask, epoch
