"""The order of training examples, as a pure function of (seed, epoch, lane, position).

*Canonical order* is a fixed permutation of the sorted example names: class-sorted folders mix in
it, and packed shards hold it.  It does not depend on the training seed.  A lane (see
:mod:`harness.data.lanes`) is a range of it, cut into blocks of K consecutive examples, the last
one possibly short.  An epoch permutes the blocks of each lane and then shuffles inside windows of
W blocks of that sequence.  Nothing here grows with the number of examples: every position is
computed by itself, so starting anywhere costs what starting at 0 costs.  Free of TensorFlow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data import lanes as lane_arithmetic
from harness.data.permute import Domain, Key, Numbers, fold, key_of, permute, unpermute

CANONICAL_SEED = 0x6861726E657373
"""Key of the canonical order ("harness" in ASCII).  Never change it: packed shards hold it."""

_BLOCKS, _WINDOWS = 1, 2
_PIECE = 1 << 20

Mask = NDArray[np.float32]


class Order:
    """Which example stands where.

    Args:
        n: number of examples N, 1 or more.
        global_batch: examples B of a global batch, over all replicas.
        lanes: number of lanes L, see :func:`harness.data.lanes.lane_count`.
        seed: the training seed, 0 <= seed < 2**63.
        block: examples of a block K.
        window: blocks of a window W.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self, n: int, global_batch: int, lanes: int, seed: int, block: int, window: int
    ) -> None:
        for name, value, least in (("n", n, 1), ("block", block, 1), ("window", window, 1)):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, was {value}")
        if not 0 <= seed < 1 << 63:
            raise ValueError(f"seed must be in [0, 2**63 - 1], was {seed}")
        self.n, self.global_batch, self.lanes = n, global_batch, lanes
        self.seed, self.block, self.window = seed, block, window
        self.per_lane = global_batch // lanes
        self.steps_per_epoch = lane_arithmetic.steps_per_epoch(n, global_batch, lanes)
        # No window is wider than the longest lane: the same order, and no product leaves int64.
        longest = -(-n // lanes)
        self._window = min(window, lane_arithmetic.block_count(longest, block))
        whole = max(n // lanes, 1)
        self._short, self._long = (_Lane(m, block, self._window) for m in (whole, whole + 1))

    def batch(
        self,
        epoch: int | Numbers,
        step: int | Numbers,
        first_lane: int = 0,
        lane_count: int | None = None,
    ) -> tuple[Numbers, Mask]:
        """The rows of global batches that belong to lanes [first_lane, first_lane + lane_count).

        Args:
            epoch: epochs, from 0: a scalar, or a vector as long as ``step``.
            step: steps within the epoch, in [0, steps_per_epoch): a scalar or a vector [s].
            first_lane, lane_count: all lanes by default.

        Returns:
            Canonical positions, int64, and mask, float32: [rows], or [s, rows] for a vector of
            steps, with rows = lane_count * B/L, lane-major.  Where mask is 0 the position is
            padding: the last example that the lane has in this epoch (any, where it is empty).
        """
        count = self.lanes - first_lane if lane_count is None else lane_count
        if not (first_lane >= 0 and count >= 1 and first_lane + count <= self.lanes):
            raise ValueError(
                f"lanes [{first_lane}, {first_lane + count}) must be within [0, {self.lanes})"
            )
        steps = np.asarray(step, np.int64)
        epochs = np.broadcast_to(np.asarray(epoch, np.int64), steps.shape)
        # [s, lanes, k], then flat.
        lane = np.arange(first_lane, first_lane + count)[:, None]
        position = steps[..., None, None] * self.per_lane + np.arange(self.per_lane)
        every = np.broadcast_arrays(epochs[..., None, None], lane, position)
        canonical, mask = self.at(*(each.reshape(-1) for each in every))
        shape = (*steps.shape, count * self.per_lane)
        return canonical.reshape(shape), mask.reshape(shape)

    @property
    def windows(self) -> int:
        """Windows of a lane in an epoch; a lane one example shorter may have an empty last one."""
        return -(-lane_arithmetic.block_count(-(-self.n // self.lanes), self.block) // self._window)

    @property
    def window_rows(self) -> int:
        """Examples of a window, but for the last ones of a lane: 1 or more."""
        return min(self.block * self._window, -(-self.n // self.lanes))

    def window_start(self, epoch: Numbers, lane: Numbers, window: Numbers) -> Numbers:
        """First position, within the lane and the epoch, of windows: int64 vectors all.

        Window :attr:`windows` begins where the epoch ends, padding included, which thus belongs
        to the last window.
        """
        _, length, lay = self._lay(epoch, lane)
        begin = window * (self.block * self._window)
        begin = begin - np.where(window > lay.short_slot // self._window, lay.missing, 0)
        end = self.steps_per_epoch * self.per_lane
        return np.where(window >= self.windows, end, np.minimum(begin, length))

    def window_of(self, epoch: Numbers, lane: Numbers, position: Numbers) -> Numbers:
        """The windows that hold positions, the inverse of :meth:`window_start`: int64 vectors."""
        _, length, lay = self._lay(epoch, lane)
        at = self._room(position, lay) // (self.block * self._window)
        return np.where(position < length, at, self.windows - 1)

    def at(self, epoch: Numbers, lane: Numbers, position: Numbers) -> tuple[Numbers, Mask]:
        """Canonical positions and masks of (epoch, lane, position in the lane): int64 vectors."""
        start, length, lay = self._lay(epoch, lane)
        mask = (position < length) & (self._lane_length(lane) > 0)
        canonical = start + self._shuffled(np.minimum(position, length - 1), lay)
        return canonical, mask.astype(np.float32)

    def lane_start(self, lane: Numbers) -> Numbers:
        """First canonical position of lanes: floor(N*i/L)."""
        # Without the product N*i, which could leave int64.
        whole, rest = divmod(self.n, self.lanes)
        return lane * whole + lane * rest // self.lanes

    def _lane_length(self, lane: Numbers) -> Numbers:
        return self.lane_start(lane + 1) - self.lane_start(lane)

    def _lay(self, epoch: Numbers, lane: Numbers) -> tuple[Numbers, Numbers, _Lay]:
        """First canonical position, length and inside of lanes, for epochs."""
        start, length = self.lane_start(lane), self._lane_length(lane)
        if self.n < self.lanes:
            # Empty lanes: any example will do, as its mask is 0.
            start, length = np.where(length == 0, start % self.n, start), np.maximum(length, 1)
        kind = (length == self._short.n + 1).astype(np.int64)
        key = fold(fold(key_of(self.seed), epoch), lane)
        short, long = self._short, self._long
        count = _pick([short.blocks, long.blocks], kind)
        blocks = _domains([short.blocks, long.blocks], kind)
        block_key = fold(key, _BLOCKS)
        return (
            start,
            length,
            _Lay(
                kind=kind,
                key=key,
                slots=count,
                missing=_pick([short.missing, long.missing], kind),
                blocks=blocks,
                block_key=block_key,
                short_slot=unpermute(count - 1, blocks, block_key),
            ),
        )

    def _room(self, position: Numbers, lay: _Lay) -> Numbers:
        """Positions as if every block were whole.

        The short block makes everything after it come ``missing`` earlier than whole blocks
        would put it.  Adding ``missing`` back to positions behind its window makes block and
        window a division.
        """
        span = self.block * self._window
        short_window = lay.short_slot // self._window
        is_before = position < (short_window + 1) * span - lay.missing
        return np.where(is_before, position, position + lay.missing)

    def _shuffled(self, position: Numbers, lay: _Lay) -> Numbers:
        """Offset in the lane of the example at ``position`` of the epoch."""
        short, long = self._short, self._long
        block, window = self.block, self._window
        short_window = lay.short_slot // window
        span = block * window
        room = self._room(position, lay)
        at = room // span
        is_short = (at == short_window).astype(np.int64)
        is_last = (at == (lay.slots - 1) // window).astype(np.int64)
        sizes = _domains(
            short.window_sizes + long.window_sizes, lay.kind * 4 + is_last * 2 + is_short
        )
        inside = permute(room - at * span, sizes, fold(fold(lay.key, _WINDOWS), at))
        # Back to a room position, now inside the window.
        end_of_short = (lay.short_slot - short_window * window + 1) * block - lay.missing
        inside = np.where((is_short == 1) & (inside >= end_of_short), inside + lay.missing, inside)
        slot = at * window + inside // block
        return permute(slot, lay.blocks, lay.block_key) * block + inside % block


class _Lay(NamedTuple):
    """How lanes lie in an epoch: int64 vectors."""

    kind: Numbers
    key: Key
    slots: Numbers
    missing: Numbers
    blocks: Domain
    block_key: Key
    short_slot: Numbers


def sorted_row(canonical: Numbers, n: int) -> Numbers:
    """Rows in the sorted names of canonical positions of ``n`` examples, an int64 vector."""
    return permute(canonical, _domain(n), key_of(CANONICAL_SEED))


def canonical_position(row: Numbers, n: int) -> Numbers:
    """The inverse of :func:`sorted_row`."""
    return unpermute(row, _domain(n), key_of(CANONICAL_SEED))


def canonical_rows(n: int) -> Numbers:
    """Rows of the sorted names in canonical order, int64 [n]."""
    rows = np.empty(n, np.int64)
    for start in range(0, n, _PIECE):
        end = min(start + _PIECE, n)
        rows[start:end] = sorted_row(np.arange(start, end), n)
    return rows


class _Lane:
    """The arithmetic of a lane of ``n`` examples, in Python ints."""

    def __init__(self, n: int, block: int, window: int) -> None:
        self.n = n
        self.blocks = lane_arithmetic.block_count(n, block)
        self.missing = self.blocks * block - n
        """Examples that the last block lacks."""
        last = (self.blocks - 1) % window + 1
        whole = [window * block, last * block]
        self.window_sizes = [size - less for size in whole for less in (0, self.missing)]
        """Examples of a window: not last, not last but with the short block, last, both."""


def _pick(values: list[int], which: Numbers) -> Numbers:
    return np.array(values, np.int64)[which]


def _domains(sizes: list[int], which: Numbers) -> Domain:
    grids = [lane_arithmetic.grid_of(size) for size in sizes]
    return Domain(
        _pick(sizes, which),
        _pick([a for a, _ in grids], which),
        _pick([b for _, b in grids], which),
    )


def _domain(n: int) -> Domain:
    a, b = lane_arithmetic.grid_of(n)
    return Domain(*(np.array(value, np.int64) for value in (n, a, b)))


def start_of(order: Order, epoch: int, step: int) -> int:
    """Global batches before (epoch, step)."""
    if epoch < 0 or not 0 <= step < order.steps_per_epoch:
        allowed = f"[0, {order.steps_per_epoch - 1}]"
        raise ValueError(f"epoch must not be negative and step in {allowed}: {epoch}, {step}")
    return epoch * order.steps_per_epoch + step
