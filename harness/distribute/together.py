"""What all ranks do together on the host, between calls: agree, wait, tell, compare.

Everything rests on one operation, the sum of a vector over all ranks, so that it works alike
over every library.  What one rank tells the others is a sum in which they give zeros; integers
are summed, never floating point, so that no bit changes on the way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

    from harness.distribute.topology import Topology

_CHUNK = 1 << 24
"""int32 words in one sum of a broadcast: 64 MB, so that a large model needs no second copy."""


class Together:
    """The host's side of a :class:`~harness.distribute.base.Distribution`; of one rank here.

    Every method is a collective: all ranks call it, in the same order.  With one rank it costs
    nothing.
    """

    topology: Topology

    def sum_ranks(self, values: np.ndarray) -> np.ndarray:
        """A vector (int32, int64 or float64) summed over all ranks; each gets the same bits."""
        return values

    def agree(self, flag: bool) -> bool:
        """True on every rank if ``flag`` is true on any."""
        if self.topology.size == 1:
            return flag
        return bool(self.sum_ranks(np.array([flag], np.int64))[0])

    def first(self, number: int) -> int:
        """The number that rank 0 has."""
        if self.topology.size == 1:
            return number
        mine = number if self.topology.is_first else 0
        return int(self.sum_ranks(np.array([mine], np.int64))[0])

    def barrier(self) -> None:
        """Returns when every rank has come here."""
        self.agree(False)

    def tell_all(self, value: Any) -> Any:
        """The JSON value that rank 0 has; what the others give is ignored."""
        if self.topology.size == 1:
            return value
        data = json.dumps(value).encode() if self.topology.is_first else b""
        words = np.zeros(self.first(-(-len(data) // 4)), np.int32)
        if self.topology.is_first:
            words[:] = _words(data)
        return json.loads(_text(self._from_first(words)))

    def gather(self, value: Any) -> list[Any]:
        """The JSON values of all ranks, by rank."""
        place = self.topology
        if place.size == 1:
            return [value]
        mine = _words(json.dumps(value).encode())
        lengths = np.zeros(place.size, np.int64)
        lengths[place.rank] = len(mine)
        table = np.zeros((place.size, int(self.sum_ranks(lengths).max())), np.int32)
        table[place.rank, : len(mine)] = mine
        summed = self.sum_ranks(table.reshape(-1)).reshape(table.shape)
        return [json.loads(_text(row)) for row in summed]

    def share_arrays(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The arrays of rank 0, bit by bit; the others give arrays of the same shape and dtype."""
        if self.topology.size == 1:
            return list(arrays)
        raw = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        shared = self._from_first(_words(raw)).tobytes()
        result, at = [], 0
        for array in arrays:
            piece = shared[at : at + array.nbytes]
            result.append(np.frombuffer(piece, array.dtype).reshape(array.shape).copy())
            at += array.nbytes
        return result

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """Gives every rank the values of rank 0, bit by bit."""
        if self.topology.size == 1:
            return
        shared = self.share_arrays([self.copies(variable)[0] for variable in variables])
        if not self.topology.is_first:
            for variable, value in zip(variables, shared, strict=True):
                assign_here(variable, value)

    def copies(self, variable: tf.Variable) -> list[np.ndarray]:
        """The values of ``variable`` on every device of this process."""
        return [np.asarray(copy.numpy()) for copy in copies_of(variable)]

    def _from_first(self, words: np.ndarray) -> np.ndarray:
        """int32 words of rank 0; the others give as many, whatever they hold."""
        mine = words if self.topology.is_first else np.zeros_like(words)
        parts = [
            self.sum_ranks(mine[start : start + _CHUNK]) for start in range(0, len(mine), _CHUNK)
        ]
        return np.concatenate(parts) if parts else mine


def copies_of(variable: tf.Variable) -> tuple[tf.Variable, ...]:
    """The variable on each device of this process.

    A ``tf.distribute.Strategy`` makes one variable of them.  To read or assign that one may be a
    collective of all ranks (moving averages are brought together), which one rank that restores a
    checkpoint would wait in for ever.
    """
    return tuple(getattr(variable, "values", (variable,)))


def assign_here(variable: tf.Variable, value: np.ndarray) -> None:
    """Gives ``variable`` a value on all devices of this process, with no other rank's help."""
    for copy in copies_of(variable):
        copy.assign(value)


def _words(data: bytes) -> np.ndarray:
    """Bytes as int32 words, filled up with spaces, which JSON passes over."""
    return np.frombuffer(data + b" " * (-len(data) % 4), np.int32)


def _text(words: np.ndarray) -> str:
    return words.tobytes().rstrip(b"\0").decode()
