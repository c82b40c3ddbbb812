"""Graph code around :class:`harness.data.cache.DecodedCache`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from harness.data.cache import DecodedCache
from harness.data.rows import Chunk

KEPT = "kept"
"""In a chunk: what the cache has of its rows, string vector, "" where that is nothing."""


class Kept:
    """Examples out of a cache where they are in it, else made and put there.

    Args:
        cache: of this process.
    """

    def __init__(self, cache: DecodedCache) -> None:
        self._cache = cache

    def begin(self, kind: object) -> None:
        """See :meth:`DecodedCache.begin`."""
        self._cache.begin(kind)

    def look_up(self, chunk: Chunk) -> Chunk:
        """The chunk with what the cache has of it."""
        kept = tf.numpy_function(self._cache.take, [chunk["row"]], tf.string)
        return chunk | {KEPT: tf.ensure_shape(kept, chunk["row"].shape)}

    def example(self, row: Chunk, make: Callable[[], tf.Tensor], like: tf.TensorSpec) -> tf.Tensor:
        """The example of one row.

        Args:
            make: decodes it; fails where it is corrupt, and then nothing is kept.
            like: what it gives.
        """

        def made() -> tf.Tensor:
            example = make()
            content = tf.io.serialize_tensor(example)
            done = tf.numpy_function(self._keep, [row["row"], content], tf.bool)
            with tf.control_dependencies([done]):
                return tf.identity(example)

        example = tf.cond(
            tf.equal(row[KEPT], ""), made, lambda: tf.io.parse_tensor(row[KEPT], like.dtype)
        )
        return tf.ensure_shape(example, like.shape)

    def _keep(self, row: np.int64, content: bytes) -> np.bool_:
        self._cache.keep(int(row), content)
        return np.bool_(True)
