"""Rows out of TFRecord files of others, in the order of any other index.

Each record is read by itself, at the place that the index says, many at once and ahead of what is
decoded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from harness.data.content import Content
from harness.data.records import RecordIndex, Unreadable
from harness.data.resampling import Resampling
from harness.data.rows import Chunk, NamedRows, is_kept, plain


class RecordRows(NamedRows):
    """The :class:`~harness.data.rows.Rows` of a :class:`~harness.data.records.RecordIndex`."""

    def __init__(
        self,
        index: RecordIndex,
        content: Content,
        resampling: Resampling | None = None,
        look_up: Callable[[Chunk], Chunk] | None = None,
    ) -> None:
        self._table = index.table
        super().__init__(index, None, content, resampling, look_up, hold_names=False)

    def blame(self, row: int, name: str) -> tuple[str, str]:
        """See the protocol."""
        try:
            return name, self._content.fault_in(self._table.content(row))
        except Unreadable as fault:
            return name, str(fault)

    def _read_ahead(self, chunks: tf.data.Dataset, chunk: int) -> tf.data.Dataset:
        """Names and contents, of several chunks at once."""

        if self._look_up is not None:
            chunks = chunks.map(plain(self._look_up))

        def read(rows: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            names, contents = np.empty(len(rows), object), np.empty(len(rows), object)
            names[:] = [self._table.name(row).encode() for row in rows.tolist()]
            contents[:] = [
                b"" if there else self._bytes(row)
                for row, there in zip(rows.tolist(), kept, strict=True)
            ]
            return names, contents

        @plain
        def with_content(rows: Chunk) -> Chunk:
            kept = is_kept(rows, chunk)
            name, content = tf.numpy_function(read, [rows["row"], kept], [tf.string, tf.string])
            name, content = (tf.ensure_shape(each, [chunk]) for each in (name, content))
            return rows | {"name": name, "content": content}

        at_once = max(1, self._chunks_at_once(chunk))
        return chunks.map(with_content, num_parallel_calls=at_once, deterministic=True)

    def _bytes(self, row: int) -> bytes:
        try:
            return self._table.content(row)
        except Unreadable:
            return b""  # which is no example; then it is asked why
