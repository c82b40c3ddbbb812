"""Looks up what the files of a packed set hold of single examples.  Free of TensorFlow."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.packed import PackedIndex
from harness.data.selection import Positions

_PIECE_BYTES, _HELD_PIECES = 16 << 10, 2048
"""Read at once, and how many of these are kept: 32 MB, more than all windows of a run touch."""


class EntryRows:
    """The entries of one file, of examples whose neighbours are asked for soon after.

    Args:
        name: one of ``packed.kinds``.
    """

    def __init__(self, packed: PackedIndex, name: str) -> None:
        self._packed, self._name = packed, name
        self._kind = np.dtype(packed.kinds[name])
        self._rows = max(1, _PIECE_BYTES // self._kind.itemsize)
        self._held: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def at(self, positions: Positions) -> NDArray[Any]:
        """The entries of examples.

        Args:
            positions: canonical, in any order, with repeats.

        Raises:
            DataError: the file is not whole.
        """
        pieces, inside = np.divmod(positions, self._rows)
        found = np.empty(len(positions), self._kind)
        for piece in np.unique(pieces).tolist():
            mine = pieces == piece
            found[mine] = self._piece(piece)[inside[mine]]
        return found

    def _piece(self, number: int) -> NDArray[Any]:
        held = self._held.pop(number, None)
        if held is None:
            first = number * self._rows
            count = min(self._rows, len(self._packed) - first)
            held = self._packed.entries(self._name, first, count, near=True)
        self._held[number] = held
        if len(self._held) > _HELD_PIECES:
            self._held.popitem(last=False)
        return held
