"""Which tensors are summed together.  Pure.

A bucket is always the same tensors in the same order, so a sum is always made in the same way
and gives the same bits; left to themselves, libraries group what happens to be ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

BUCKET_BYTES = 32 << 20
"""Large enough that a network's latency does not count, small enough that the first buckets are
under way while the rest of the backward pass still computes."""


RING_BYTES = 1 << 20
"""Of a bucket, for each rank of a ring of CPUs: a piece that stays in a core's cache.  Two ranks on
one machine sum 3.7 MB in two pieces in 0.8 of the time that one takes (``make bench ONLY=P8``).
Smaller pieces are no faster, and each costs the step what its ranks say to agree on it."""


def bucket_bytes(ranks: int, *, gpus: bool) -> int:
    """The most that a bucket holds, in bytes."""
    return BUCKET_BYTES if gpus else min(BUCKET_BYTES, RING_BYTES * ranks)


def buckets(
    sizes: Sequence[int], kinds: Sequence[str], limit: int = BUCKET_BYTES
) -> list[list[int]]:
    """Indices of the tensors of every bucket, in the order in which the buckets get ready.

    The gradients of the last layers are ready first, so tensors are taken from the end.  A
    bucket holds tensors of one kind, of ``limit`` bytes at most, or one larger tensor.

    Args:
        sizes: bytes of every tensor.
        kinds: dtype of every tensor; only equal ones are summed together.

    Raises:
        ValueError: not as many sizes as kinds.
    """
    if len(sizes) != len(kinds):
        raise ValueError(f"{len(sizes)} sizes and {len(kinds)} kinds")
    made: list[list[int]] = []
    open_of: dict[str, tuple[int, int]] = {}  # kind -> (bucket, its bytes)
    for index in range(len(sizes) - 1, -1, -1):
        kind, size = kinds[index], sizes[index]
        number, filled = open_of.get(kind, (-1, 0))
        if number < 0 or filled + size > limit:
            number, filled = len(made), 0
            made.append([])
        made[number].append(index)
        open_of[kind] = (number, filled + size)
    return made


def buckets_of(tensors: Sequence[tf.Tensor], limit: int = BUCKET_BYTES) -> list[list[int]]:
    """The buckets of tensors of static shape; see :func:`buckets`."""
    sizes = [int(tensor.shape.num_elements() or 0) * tensor.dtype.size for tensor in tensors]
    return buckets(sizes, [tensor.dtype.name for tensor in tensors], limit)


def joined(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The elements of tensors of one dtype as one vector."""
    import tensorflow as tf

    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)


def parted(vector: tf.Tensor, like: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The inverse of :func:`joined` for tensors of static shape."""
    import tensorflow as tf

    parts = tf.split(vector, [int(tensor.shape.num_elements() or 0) for tensor in like])
    return [tf.reshape(part, tensor.shape) for part, tensor in zip(parts, like, strict=True)]
