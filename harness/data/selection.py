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
_AT_ONCE = 2048 * _BYTES
_ONES = np.array([value.bit_count() for value in range(256)], np.uint8)

Positions = NDArray[np.int64]


class Selection:
    """Some of the positions [0, whole), in ascending order; all of them without ``bits``.

    Args:
        bits: as ``np.packbits(bitorder="little")`` makes them; kept, not copied.
        others: those without a bit are selected.

    Raises:
        ValueError: there are not as many bits as positions.
    """

    def __init__(
        self, whole: int, bits: NDArray[np.uint8] | None = None, *, others: bool = False
    ) -> None:
        if bits is not None and len(bits) != -(-whole // 8):
            raise ValueError(f"{len(bits)} bytes of bits for {whole} positions")
        self.whole = whole
        self._bits, self._others = bits, others
        if bits is None:
            self._starts = np.array([0, whole], np.int64)
            return
        ones = [
            np.add.reduceat(_ONES[some], np.arange(0, len(some), _BYTES), dtype=np.int64)
            for some in (bits[at : at + _AT_ONCE] for at in range(0, len(bits), _AT_ONCE))
        ]
        self._starts = np.cumsum(np.concatenate([[0], *ones])).astype(np.int64)
        if others:
            ends = np.minimum(np.arange(len(self._starts)) * _BITS, whole)
            self._starts = ends - self._starts

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
            start = int(piece) * _BITS
            ones = np.flatnonzero(self.holds(start, min(_BITS, self.whole - start)))
            found[mine] = piece * _BITS + ones[ranks[mine] - self._starts[piece]]
        return found

    def holds(self, start: int, count: int) -> NDArray[np.bool_]:
        """Whether the positions [start, start + count) belong to the part; ``start`` is 8*i."""
        if self._bits is None:
            return np.ones(count, bool)
        raw = self._bits[start // 8 : -(-(start + count) // 8)]
        has = np.unpackbits(raw, count=count, bitorder="little").astype(bool)
        return ~has if self._others else has

    def digest(self) -> str:
        """SHA-256 of which they are."""
        held = hashlib.sha256(f"{self.whole}\n".encode())
        if self._bits is not None:
            for at in range(0, len(self._bits), _AT_ONCE):
                some = self._bits[at : at + _AT_ONCE]
                if self._others:
                    some = ~some
                    if self.whole % 8 and at + _AT_ONCE >= len(self._bits):
                        some[-1] &= (1 << self.whole % 8) - 1
                held.update(some.data)
        return held.hexdigest()
