"""The windows of lanes, one after the other, as readers of packed shards take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from harness.data.order import Order


class Windows:
    """The windows of every lane from one global batch on, numbered through all epochs.

    Args:
        start: global batches before the first one, from epoch 0 on.
    """

    def __init__(self, order: Order, start: int) -> None:
        self._order = order
        self._epoch, step = divmod(start, order.steps_per_epoch)
        self._position = step * order.per_lane
        with tf.device("/CPU:0"):
            lanes = tf.range(order.lanes, dtype=tf.int64)
            at = order.window_of(_like(lanes, self._epoch), lanes, _like(lanes, self._position))
        self.firsts: tf.Tensor = self._epoch * order.windows + at
        """Number of the first window of each lane, int64 [lanes]."""
        # Traced once: a data set prepares what it maps anew for each of its iterators.
        self._rows = tf.function(
            self._trace, input_signature=[tf.TensorSpec([], tf.int64)] * 2, autograph=False
        )

    def rows(self, lane: np.int64, number: np.int64) -> tuple[np.ndarray, ...]:
        """Canonical positions, masks and epochs of a window: int64 [rows], float32, int64.

        The first window of a lane begins where the first global batch does.
        """
        with tf.device("/CPU:0"):
            found = self._rows(tf.constant(lane, tf.int64), tf.constant(number, tf.int64))
        return tuple(each.numpy() for each in found)

    def _trace(self, lane: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        order = self._order
        epoch, inside = number // order.windows, number % order.windows
        both = tf.stack([inside, inside + 1])
        starts = order.window_start(_like(both, epoch), _like(both, lane), both)
        begin, end = tf.unstack(starts)
        is_first = number == self.firsts[lane]
        begin = tf.where(is_first, tf.constant(self._position, tf.int64), begin)
        positions = tf.range(begin, end)
        epochs = _like(positions, epoch)
        canonical, mask = order.at(epochs, _like(positions, lane), positions)
        return canonical, mask, epochs


def _like(vector: tf.Tensor, number: Any) -> tf.Tensor:
    return tf.fill(tf.shape(vector), tf.cast(number, tf.int64))
