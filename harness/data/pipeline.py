"""The tf.data pipelines: batches in the exact order, of a fixed shape, from any step on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from harness.data.augment import example_key
from harness.data.cache import DecodedCache
from harness.data.content import Changes, Content, content_of
from harness.data.corrupt import CorruptRecorder
from harness.data.guard import guarded
from harness.data.index import ExampleIndex
from harness.data.kept import Kept
from harness.data.lanes import check_replicas, replica_rows
from harness.data.mixing import Mixing
from harness.data.order import Order, start_of
from harness.data.packed_examples import PackedExamples
from harness.data.packed_rows import PackedRows
from harness.data.record_rows import RecordRows
from harness.data.records import RecordIndex
from harness.data.resampling import Resampling
from harness.data.rows import Chunk, NamedRows, Rows, Share, parted, plain
from harness.data.sources import Load

_CHUNK, _CHUNKS_BYTES = 32, 256 << 20
"""Most examples of a chunk, and most bytes of what is decoded in all chunks that are under way."""
_READY, _READY_BYTES = 16, 256 << 20
"""Most batches that are ready before they are asked for, and most bytes of them, but always two."""


class Feed:
    """Batches of one split.

    A batch is a dict: ``image`` uint8 [b, S, S, 3] or ``text`` string [b], ``label`` int32 [b]
    (of several labels at once float32 [b, labels], -1 where not known; or standardised numbers),
    ``mask`` float32 [b], ``weight`` float32 [b], ``index`` int64 [b] (row in the sorted names of
    the whole set, also where this is a part of one).  Rows with mask 0 are padding or corrupt.
    With ``mixing`` there is more, see :meth:`harness.data.mixing.Mixing.batches`.

    Args:
        index: the examples.
        order: their order, for :meth:`training`.
        augment: for :meth:`training`; None leaves examples as they are.
        mixing: for :meth:`training`, of pictures; None mixes no examples.
        class_weights: one a class, by which the weights of its examples are multiplied; None is 1.
        recorder: hears of corrupt examples; None lets them pass unrecorded.
        load: of a plug-in source; None reads files.
        content: what the examples are; None is pictures.
        threads: size of the pipeline's own thread pool; None shares TensorFlow's.
        cache: keeps decoded examples; None decodes them anew in every epoch.
        resampling: which examples make up an epoch of training, not of a packed set; None takes
            each once.
    """

    def __init__(
        self,
        index: ExampleIndex | PackedExamples,
        *,
        order: Order | None = None,
        augment: Changes | None = None,
        class_weights: Sequence[float] | None = None,
        recorder: CorruptRecorder | None = None,
        load: Load | None = None,
        content: Content | None = None,
        threads: int | None = None,
        resampling: Resampling | None = None,
        mixing: Mixing | None = None,
        cache: DecodedCache | None = None,
    ) -> None:
        each_epoch = len(index if resampling is None else resampling)
        if order is not None and order.n != each_epoch:
            raise ValueError(f"order is of {order.n} examples, an epoch has {each_epoch}")
        self.index, self.order = index, order
        self._augment = augment if augment is not None and augment.changes else None
        self._recorder, self._mixing = recorder, mixing
        self._content = content or content_of("image")
        self._kept = Kept(cache) if cache is not None else None
        look_up = self._kept.look_up if self._kept is not None else None
        self._rows: Rows
        if isinstance(index, PackedExamples):
            self._rows = PackedRows(index, look_up, self._content)
        elif isinstance(index, RecordIndex):
            self._rows = RecordRows(index, self._content, resampling, look_up)
        else:
            self._rows = NamedRows(index, load, self._content, resampling, look_up)
        self._threads = threads
        self._pass: tuple[tuple[int, int | None, int, int], tf.data.Dataset] | None = None
        weights = class_weights if class_weights is not None else [1.0] * len(index.classes)
        with tf.device("/CPU:0"):
            self._weights = tf.constant(np.asarray(weights, np.float32))

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch of :meth:`training`."""
        return self._needed_order().steps_per_epoch

    def training(
        self,
        epoch: int,
        step: int,
        image_size: int | None,
        replica: int = 0,
        replicas: int = 1,
        *,
        parts: int = 1,
        devices: int = 1,
    ) -> tf.data.Dataset:
        """The batches of one replica from (epoch, step) on, endless over epochs.

        Args:
            epoch, step: the first batch; starting late costs the same as starting at 0.
            image_size: height and width in pixels; None of what is no picture.
            replica, replicas: which rows [B*r/R, B*(r+1)/R) of every global batch to give.
            parts: gives them in so many batches, one after the other.
            devices: the rows are shared by so many devices, each of which has a range of its own:
                a part holds a piece of each range, in their order.

        Raises:
            EnvironmentNotAble: ``replicas`` does not divide the lanes.
            ValueError: there is no order, ``epoch`` or ``step`` is out of range, or ``parts`` and
                ``devices`` do not divide the rows.
        """
        order = self._needed_order()
        check_replicas(order.lanes, replicas, order.global_batch)
        if not 0 <= replica < replicas:
            raise ValueError(f"replica must be in [0, {replicas - 1}], was {replica}")
        start = start_of(order, epoch, step)
        lanes = order.lanes // replicas
        batch = order.global_batch // replicas
        if batch % (parts * devices):
            raise ValueError(f"{batch} rows are not shared by {devices} devices in {parts} parts")

        chunk = self._chunk_of(batch // parts, image_size)
        # What is mixed with the first batch comes from the one before it.
        first = start if self._mixing is None else max(0, start - 1)
        share = Share(
            first, replica * lanes, lanes, lambda rows: parted(rows, parts, devices), chunk
        )
        chunks = self._rows.training(order, share)
        mixed = self._mixing is not None
        batches = self._batches(chunks, batch // parts, image_size, self._augment, mixed)
        if self._mixing is not None:
            batches = self._mixing.batches(batches, parts, first < start, self._processors)
        return self._ready(batches, batch // parts, image_size)

    def evaluation(
        self, batch_size: int, image_size: int | None, replica: int = 0, replicas: int = 1
    ) -> tf.data.Dataset:
        """All examples once, without augmentation; the last batch is padded with mask 0.

        The latest is kept, as it is asked for after every epoch and takes half a second to build.

        Args:
            replica, replicas: which rows of every batch to give; they must divide it.
        """
        asked = (batch_size, image_size, replica, replicas)
        if self._pass is None or self._pass[0] != asked:
            start, end = replica_rows(batch_size, replica, replicas)
            chunk = self._chunk_of(end - start, image_size)
            chunks = self._rows.evaluation(batch_size, start, end, chunk)
            batches = self._batches(chunks, end - start, image_size, None)
            self._pass = asked, self._ready(batches, end - start, image_size)
        return self._pass[1]

    @property
    def _processors(self) -> int:
        return self._threads or len(os.sched_getaffinity(0))

    @property
    def _at_once(self) -> int:
        """Chunks under way."""
        return max(4, 2 * self._processors)

    def _chunk_of(self, batch: int, size: int | None) -> int:
        """Examples of a chunk: a divisor of ``batch``."""
        element = self._content.element(size)
        most = min(_CHUNK, _CHUNKS_BYTES // (self._at_once * _bytes(element)))
        return max(part for part in range(1, max(1, most) + 1) if batch % part == 0)

    def _needed_order(self) -> Order:
        if self.order is None:
            raise ValueError("this feed has no order, so it can only evaluate")
        return self.order

    def _batches(
        self,
        chunks: tf.data.Dataset,
        batch: int,
        size: int | None,
        augment: Changes | None,
        mixed: bool = False,
    ) -> tf.data.Dataset:
        """Chunks of rows -> decoded chunks, in parallel and in order -> batches.

        Args:
            mixed: batches also say what :class:`Mixing` asks for.
        """
        chunk = self._chunk_of(batch, size)
        element = self._content.element(size)

        if self._kept is not None:
            self._kept.begin(size if augment is None else None)

        @plain
        def decode(rows: Chunk) -> tf.data.Dataset:
            return guarded(rows, chunk, lambda row: self._load(row, size, augment), element)

        @plain
        def finish(rows: Chunk, example: tf.Tensor, good: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = {k: tf.reshape(v, [batch, *v.shape[stacked:]]) for k, v in rows.items()}
            example = tf.reshape(example, [batch, *element.shape])
            found = self._batch(rows, example, tf.reshape(good, [batch]))
            if mixed:
                found |= {"epoch": rows["epoch"], "key": example_key(rows["name"])}
            return found

        dataset = chunks.interleave(
            decode,
            cycle_length=self._at_once,
            block_length=1,
            num_parallel_calls=self._processors,
            deterministic=True,
        )
        stacked = 1 if batch == chunk else 2
        if batch != chunk:  # else a chunk is a batch, and need not be copied into one
            dataset = dataset.batch(batch // chunk, drop_remainder=True)
        return dataset.map(finish)

    def _ready(self, batches: tf.data.Dataset, batch: int, size: int | None) -> tf.data.Dataset:
        """Some batches ahead, with the options of the whole pipeline."""
        options = tf.data.Options()
        options.deterministic = True
        # Everything is as parallel as there are processors, which is what the tuner finds too.  But
        # the end of an iterator waits for the tuner, whose sleeps double up to a minute: 2 of 8
        # passes of a second took half as long again, and so would a stop.
        options.autotune.enabled = False
        # It makes nothing faster here, and fails where a plug-in's load looks into a table.
        options.experimental_optimization.map_and_batch_fusion = False
        if self._threads is not None:
            options.threading.private_threadpool_size = self._threads
        # Not left to TensorFlow, which may fill half of the memory that it sees.
        element = self._content.element(size)
        ready = max(2, min(_READY, _READY_BYTES // (batch * _bytes(element))))
        return batches.prefetch(ready).with_options(options)

    def _load(self, row: Chunk, size: int | None, augment: Changes | None) -> tf.Tensor:
        """The example of one row as the model takes it."""
        if augment is not None:
            decoded = self._example(row, lambda: self._rows.image(row), self._content.decoded)
            return augment(decoded, size, row["epoch"], example_key(row["name"]))

        def prepared() -> tf.Tensor:
            return self._content.prepare(self._rows.image(row), size)

        # Less to keep than what it is made of.
        return self._example(row, prepared, self._content.element(size))

    def _example(self, row: Chunk, make: Callable[[], tf.Tensor], like: tf.TensorSpec) -> tf.Tensor:
        return make() if self._kept is None else self._kept.example(row, make, like)

    def _batch(self, rows: Chunk, example: tf.Tensor, good: tf.Tensor) -> dict[str, tf.Tensor]:
        row = rows["row"]
        if self._recorder is not None:
            bad = [tf.boolean_mask(rows[key], ~good) for key in ("row", "name")]
            recorded = tf.cond(
                tf.reduce_all(good),
                lambda: True,
                lambda: tf.numpy_function(self._record, bad, tf.bool),
            )
            with tf.control_dependencies([recorded]):
                row = tf.identity(row)
        return {
            self._content.medium.name: example,
            "label": rows["label"],
            "mask": rows["mask"] * tf.cast(good, tf.float32),
            "weight": rows["weight"] * self._class_weight(rows["label"]),
            "index": row,
        }

    def _class_weight(self, label: tf.Tensor) -> tf.Tensor | float:
        """1 of several labels at once or numbers, whose weights the spec refuses."""
        return tf.gather(self._weights, label) if label.dtype.is_integer else 1.0

    def _record(self, rows: np.ndarray, names: np.ndarray) -> np.bool_:
        assert self._recorder is not None, "only built with a recorder"
        for row, raw in zip(rows, names, strict=True):
            self._recorder.add(*self._rows.blame(int(row), raw.decode()))
        return np.bool_(True)


def _bytes(element: tf.TensorSpec) -> int:
    """Of one example as the model takes it; 1 where it is a text, whose length is its own."""
    return max(1, int(element.shape.num_elements() * element.dtype.size))
