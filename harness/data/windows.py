"""The windows of lanes, one after the other, as readers of packed shards take them."""

from __future__ import annotations

import numpy as np

from harness.data.order import Mask, Order
from harness.data.permute import Numbers


class Windows:
    """The windows of every lane from one global batch on, numbered through all epochs.

    Args:
        start: global batches before the first one, from epoch 0 on.
    """

    def __init__(self, order: Order, start: int) -> None:
        self._order = order
        epoch, step = divmod(start, order.steps_per_epoch)
        self._position = step * order.per_lane
        lanes = np.arange(order.lanes)
        at = order.window_of(np.full_like(lanes, epoch), lanes, np.full_like(lanes, self._position))
        self.firsts: Numbers = epoch * order.windows + at
        """Number of the first window of each lane, [lanes]."""

    def rows(self, lane: int, number: int) -> tuple[Numbers, Mask, Numbers]:
        """Canonical positions, masks and epochs of a window: [rows] each.

        The first window of a lane begins where the first global batch does.
        """
        order = self._order
        epoch, inside = divmod(number, order.windows)
        both = np.array([inside, inside + 1])
        starts = order.window_start(np.full_like(both, epoch), np.full_like(both, lane), both)
        begin, end = starts.tolist()
        if number == self.firsts[lane]:
            begin = self._position
        positions = np.arange(begin, end)
        epochs = np.full_like(positions, epoch)
        canonical, mask = order.at(epochs, np.full_like(positions, lane), positions)
        return canonical, mask, epochs
