"""Examples read once in canonical order, for what is computed from them ahead."""

from __future__ import annotations

import tensorflow as tf

from harness.data.pipeline import Feed
from harness.data.rows import Chunk, Listed


class ContentFeed(Feed):
    """Batches of listed examples of one split.

    A batch is a dict: the examples by the name of their medium, ``weight`` float32 [b] and ``good``
    bool [b], false where the example is corrupt.  Arguments are those of
    :class:`~harness.data.pipeline.Feed`; examples are augmented where ``augment`` says how.
    """

    def listed(self, some: Listed, batch: int, image_size: int | None) -> tf.data.Dataset:
        """Batches of some examples, endless; the last one of a pass is padded."""
        chunk = self._chunk_of(batch, image_size)
        chunks = self._rows.evaluation(batch, 0, batch, chunk, some)
        batches = self._batches(chunks, batch, image_size, self._augment)
        return self._ready(batches.repeat(), batch, image_size)

    def blame(self, row: int, name: str) -> tuple[str, str]:
        """Name and fault of a corrupt example."""
        return self._rows.blame(row, name)

    def _batch(self, rows: Chunk, example: tf.Tensor, good: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            self._content.medium.name: example,
            "weight": rows["weight"],
            "good": good,
        }
