"""Which examples of a set belong to a part of it.  Free of TensorFlow.

A part of a packed set is kept as one bit for each example of the whole, and the n-th example of
the part is found by counting: 12.5 MB for 1e8 examples, where a list of them would take 800 MB.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_BITS = 4096
"""Of a piece for which the examples before it are counted ahead."""
_BYTES = _BITS // 8
_ONES = np.array([value.bit_count() for value in range(256)], np.uint8)

Positions = NDArray[np.int64]


class Selection:
    """Some of the positions [0, whole), in ascending order; all of them without ``bits``.

    Args:
        bits: as ``np.packbits(bitorder="little")`` makes them.

    Raises:
        ValueError: there are not as many bits as positions.
    """

    def __init__(self, whole: int, bits: NDArray[np.uint8] | None = None) -> None:
        if bits is not None and len(bits) != -(-whole // 8):
            raise ValueError(f"{len(bits)} bytes of bits for {whole} positions")
        self.whole = whole
        self._bits = bits
        if bits is None:
            self._starts = np.array([0, whole], np.int64)
            return
        starts = np.arange(0, len(bits), _BYTES)
        self._starts = np.zeros(len(starts) + 1, np.int64)
        if len(bits):
            self._starts[1:] = np.cumsum(np.add.reduceat(_ONES[bits], starts, dtype=np.int64))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return len(self) == self.whole

    def positions(self, ranks: Positions) -> Positions:
        """Where the examples of the part stand in the whole: int64, as many as ``ranks``.

        Args:
            ranks: numbers of examples within the part, in [0, len(self)).
        """
        bits = self._bits
        if bits is None:
            return ranks
        found = np.empty_like(ranks)
        pieces = np.searchsorted(self._starts, ranks, side="right") - 1
        for piece in np.unique(pieces):
            mine = pieces == piece
            raw = bits[piece * _BYTES : (piece + 1) * _BYTES]
            ones = np.flatnonzero(np.unpackbits(raw, bitorder="little"))
            found[mine] = piece * _BITS + ones[ranks[mine] - self._starts[piece]]
        return found

    def holds(self, start: int, count: int) -> NDArray[np.bool_]:
        """Whether the positions [start, start + count) belong to the part; ``start`` is 8*i."""
        if self._bits is None:
            return np.ones(count, bool)
        raw = self._bits[start // 8 : -(-(start + count) // 8)]
        return np.unpackbits(raw, count=count, bitorder="little").astype(bool)

    def digest(self) -> str:
        """SHA-256 of which they are."""
        held = hashlib.sha256(f"{self.whole}\n".encode())
        if self._bits is not None:
            held.update(self._bits.tobytes())
        return held.hexdigest()


def complement(whole: int, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bits of all other positions."""
    rest = ~bits
    if whole % 8:
        rest[-1] &= (1 << whole % 8) - 1
    return rest
