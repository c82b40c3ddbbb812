"""Which examples follow one another, and what is known of them before they are decoded.

A source of rows gives *chunks*: dicts of vectors of some rows of a batch, of which ``row`` (int64,
the example's number among the sorted names of the whole set), ``mask`` (float32), ``epoch``
(int64), ``name`` (string), ``label`` (int32) and ``weight`` (float32, in the loss) are always
there.  Of several labels at once ``label`` is float32 [., labels], -1 where not known; of a
regression float32 [., targets], standardised, nan where not known.  How the rest of the data set
lies on disk is the matter of each source alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from harness.data.content import Content, content_of
from harness.data.index import ExampleIndex
from harness.data.multilabel import as_numbers
from harness.data.order import Order, canonical_position, canonical_rows
from harness.data.resampling import Resampling
from harness.data.sources import Load, folder_loader, reason_for
from harness.runs.patience import patiently

Chunk = dict[str, tf.Tensor]
Arrange = Callable[[np.ndarray], np.ndarray]
plain = tf.autograph.experimental.do_not_convert
ENDLESS = (1 << 62) - 1
_ORDER_ROWS = 4096
_READS, _READ_BYTES = 8, 128 << 20
"""Most chunks whose files are read at once, and most bytes of these files."""


class Share(NamedTuple):
    """What one replica reads of the training order.

    Attributes:
        start: global batches before its first one, from epoch 0 on.
        first_lane, lanes: the lanes that are its own.
        arrange: puts rows [steps, rows of a batch] into the order in which they are computed.
        chunk: rows of a chunk.
    """

    start: int
    first_lane: int
    lanes: int
    arrange: Arrange
    chunk: int


class Listed(NamedTuple):
    """Some examples of a split, for a pass over them alone.

    Attributes:
        examples: how many there are.
        ranks: their ranks in the split's canonical order, from their numbers in [0, examples).
        epoch: by which they are augmented.
    """

    examples: int
    ranks: Callable[[np.ndarray], np.ndarray]
    epoch: int = 0


class Rows(Protocol):
    """Where the rows of batches come from."""

    def training(self, order: Order, share: Share) -> tf.data.Dataset:
        """Chunks from a global batch on, endless over epochs; starting late costs no more."""

    def evaluation(
        self, batch: int, start: int, end: int, chunk: int, listed: Listed | None = None
    ) -> tf.data.Dataset:
        """Chunks of all examples once; of each batch its rows [start, end), padded with mask 0.

        Args:
            listed: these examples, in their order; None are all of them.
        """

    def image(self, example: Chunk) -> tf.Tensor:
        """Graph code: the decoded example of one row of a chunk; fails where it is corrupt."""

    def blame(self, row: int, name: str) -> tuple[str, str]:
        """Name and fault of an example that :meth:`image` failed on."""


class NamedRows:
    """Examples that are found one by one: files of a folder or a plug-in's, by their names, or
    texts that stand in the index.

    Args:
        load: of a plug-in source; None reads files.
        content: what the examples are.
        resampling: which of them make up an epoch of training; None takes each once.
        look_up: graph code that adds to a chunk what is at hand of its examples, as ``kept``; the
            files of those are not read.
        hold_names: keep all names in memory; else whoever reads the contents gives them.
    """

    def __init__(
        self,
        index: ExampleIndex,
        load: Load | None,
        content: Content | None = None,
        resampling: Resampling | None = None,
        look_up: Callable[[Chunk], Chunk] | None = None,
        *,
        hold_names: bool = True,
    ) -> None:
        self._index, self._plugin_load = index, load
        self._resampling, self._look_up = resampling, look_up
        self._content = content or content_of("image")
        self._load = load or folder_loader(index, self._content)
        whole = np.asarray(index.rows, np.int64) if index.whole else np.arange(len(index))
        self._ranked = ranked(index, whole)
        with tf.device("/CPU:0"):
            names = index.names if hold_names else ()
            self._names = tf.constant(np.asarray(names, object), tf.string)
            self._labels = tf.constant(labels_of(index))
            self._whole = tf.constant(whole)
            self._weights = tf.constant(
                np.asarray(index.weights or np.ones(len(index)), np.float32)
            )
            self._texts = tf.constant(np.asarray(index.texts, object), tf.string)

    def training(self, order: Order, share: Share) -> tf.data.Dataset:
        """See the protocol."""
        steps = max(1, _ORDER_ROWS // (order.per_lane * share.lanes))

        def some(first: np.int64) -> tuple[np.ndarray, ...]:
            epochs, inside = np.divmod(first + np.arange(steps), order.steps_per_epoch)
            rank, mask = order.batch(epochs, inside, share.first_lane, share.lanes)
            epoch = np.array(np.broadcast_to(epochs[:, None], rank.shape))
            if self._resampling is None:
                row = self._ranked[rank]
            else:
                flat = self._resampling.rows(rank.reshape(-1), epoch.reshape(-1))
                row, epoch = (each.reshape(rank.shape) for each in flat)
            return tuple(map(share.arrange, (row, mask, epoch)))

        @plain
        def chunks(first: tf.Tensor) -> Chunk:
            found = tf.numpy_function(some, [first], (tf.int64, tf.float32, tf.int64))
            for each in found:
                each.set_shape([steps, order.per_lane * share.lanes])
            row, mask, epoch = found
            return self._known(row, mask, epoch, share.chunk)

        numbers = tf.data.Dataset.range(share.start, ENDLESS, steps)
        return self._read_ahead(numbers.map(chunks).unbatch(), share.chunk)

    def evaluation(
        self, batch: int, start: int, end: int, chunk: int, listed: Listed | None = None
    ) -> tf.data.Dataset:
        """See the protocol; all of them in the order of the sorted names."""
        n, epoch = (len(self._index), 0) if listed is None else (listed.examples, listed.epoch)

        @plain
        def chunks(first: tf.Tensor) -> Chunk:
            at = first + tf.range(start, end, dtype=tf.int64)
            row, mask = tf.minimum(at, n - 1), tf.cast(at < n, tf.float32)
            if listed is not None:
                found = tf.numpy_function(
                    lambda at: self._ranked[listed.ranks(at)], [row], row.dtype
                )
                row = tf.ensure_shape(found, row.shape)
            return self._known(row, mask, tf.fill(row.shape, tf.constant(epoch, tf.int64)), chunk)

        return self._read_ahead(tf.data.Dataset.range(0, n, batch).map(chunks).unbatch(), chunk)

    def image(self, example: Chunk) -> tf.Tensor:
        """See the protocol."""
        if "content" in example:
            return self._content.decode(example["content"])
        return self._load(example["name"])

    def blame(self, row: int, name: str) -> tuple[str, str]:
        """See the protocol."""
        return name, reason_for(self._index, self._plugin_load, name, self._content.fault)

    def _read_ahead(self, chunks: tf.data.Dataset, chunk: int) -> tf.data.Dataset:
        """Reads small files before they are decoded, more at once than there are processors.

        What a file takes on storage behind a network is a wait.  Large ones are left to be read
        where they are decoded, one by one, as so many of them would not fit into memory.
        """
        if self._look_up is not None:
            chunks = chunks.map(plain(self._look_up))
        at_once = self._chunks_at_once(chunk)
        has_files = self._plugin_load is None and self._index.sizes and not self._index.texts
        if not has_files or at_once < 2:
            return chunks
        root = self._index.root

        def read(names: np.ndarray, kept: np.ndarray) -> np.ndarray:
            found = np.empty(len(names), object)
            # Nothing of one that cannot be read, which is no picture; then it is looked at.
            found[:] = [
                b"" if there else _content(root / os.fsdecode(name))
                for name, there in zip(names, kept, strict=True)
            ]
            return found

        @plain
        def with_content(rows: Chunk) -> Chunk:
            content = tf.numpy_function(read, [rows["name"], is_kept(rows, chunk)], tf.string)
            return rows | {"content": tf.ensure_shape(content, [chunk])}

        return chunks.map(with_content, num_parallel_calls=at_once, deterministic=True)

    def _chunks_at_once(self, chunk: int) -> int:
        """Chunks whose contents are read at the same time."""
        return int(min(_READS, _READ_BYTES // max(1.0, chunk * self._index.example_bytes)))

    def _known(self, row: tf.Tensor, mask: tf.Tensor, epoch: tf.Tensor, chunk: int) -> Chunk:
        row = tf.reshape(row, [-1, chunk])
        held = {"content": tf.gather(self._texts, row)} if self._index.texts else {}
        if len(self._names):
            held["name"] = tf.gather(self._names, row)
        return held | {
            "row": tf.gather(self._whole, row),
            "mask": tf.reshape(mask, [-1, chunk]),
            "epoch": tf.reshape(epoch, [-1, chunk]),
            "label": tf.gather(self._labels, row),
            "weight": tf.gather(self._weights, row),
        }


def parted(rows: np.ndarray, parts: int, devices: int) -> np.ndarray:
    """[steps, device, part, rows] -> [steps, part, device, rows], as [steps, all] both."""
    if parts == 1 or devices == 1:
        return rows
    steps, batch = rows.shape
    cut = rows.reshape(steps, devices, parts, batch // (devices * parts))
    return cut.transpose(0, 2, 1, 3).reshape(steps, batch)


def is_kept(rows: Chunk, chunk: int) -> tf.Tensor:
    """bool [chunk]: of which rows the example is at hand."""
    return rows["kept"] != "" if "kept" in rows else tf.fill([chunk], False)


def _content(path: Path) -> bytes:
    try:
        return patiently(path.read_bytes)
    except OSError:
        return b""


def labels_of(index: ExampleIndex) -> np.ndarray:
    """What is learned of each example, as chunks give it."""
    if index.values is not None:
        return index.values.standardised()
    return as_numbers(index.targets) if index.targets else np.asarray(index.labels, np.int32)


def ranked(index: ExampleIndex, whole: np.ndarray) -> np.ndarray:
    """Rows of an index in canonical order, that of the whole set where it is a part."""
    if not index.whole:
        return canonical_rows(len(index))
    return np.argsort(canonical_position(whole, index.whole))
