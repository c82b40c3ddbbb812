"""Decoding that no corrupt file disturbs.

A chunk of some examples is read and decoded at once, in graph code; only when that fails are its
examples tried one by one, and those that fail again get zeros (a text "") and mask 0.  So a corrupt
file moves nothing, and the guard costs healthy data little (measured on 500x375 JPEGs at 224
pixels: an unguarded ``map`` takes 0.97 of the processor time with chunks of 32, 0.93 with 8).
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from harness.data.rows import Chunk, plain

_KNOWN = ("row", "mask", "epoch", "name", "label", "weight")
"""What stays known of a row once it is decoded."""


def guarded(
    rows: Chunk, chunk: int, load: Callable[[Chunk], tf.Tensor], element: tf.TensorSpec
) -> tf.data.Dataset:
    """One element: the rows, examples [chunk, ...] and which of them are good.

    Args:
        rows: vectors of ``chunk``.
        load: graph code that decodes one row; fails where it is corrupt.
        element: what it gives.
    """

    @tf.function(autograph=False)  # traced once for its two uses
    def good(row: Chunk) -> tuple[tf.Tensor, tf.Tensor]:
        return load(row), True

    @plain
    def alone(row: Chunk) -> tf.data.Dataset:
        blank = (tf.zeros(element.shape, element.dtype), False)
        tried = tf.data.Dataset.from_tensors(row).map(plain(good)).ignore_errors()
        return tried.concatenate(tf.data.Dataset.from_tensors(blank)).take(1)

    each = tf.data.Dataset.from_tensor_slices(rows)
    # A failed batch has used up at least one example: no second whole one can follow it.
    quick = each.map(plain(good)).batch(chunk, drop_remainder=True).ignore_errors()
    careful = each.flat_map(alone).batch(chunk, drop_remainder=True)
    known = {key: value for key, value in rows.items() if key in _KNOWN}
    return quick.concatenate(careful).take(1).map(plain(lambda *done: (known, *done)))
