"""What the benches of the input pipeline share: our feed, Keras' data set, and a cold cache."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.rows import seconds

BATCH, SIZE = 32, 224
_PREPARED = 64
"""Batches that are surely more than any pipeline holds ready."""
_LOOK_S, _IDLE = 0.1, 0.05


def alone() -> None:
    """TensorFlow without GPUs, with the Keras and the heap that a run has."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    import tensorflow as tf

    from harness.distribute.heap import hold_pages

    tf.config.set_visible_devices([], "GPU")
    hold_pages()


def feed(path: Path, load: Callable[[Any], Any] | None = None) -> Any:
    """The feed of a run with the defaults of a spec, from a folder or a packed set."""
    from harness.data.lanes import lane_count, reading
    from harness.data.order import Order
    from harness.data.pipeline import Feed
    from harness.data.sets import open_index

    index = open_index(path)
    lanes = lane_count(BATCH)
    block, window = reading(lanes, index.example_bytes)
    order = Order(len(index), BATCH, lanes, 1, block, window)
    return Feed(index, order=order, load=load)


def epochs(source: Any) -> Callable[[], float]:
    """Examples a second of the length of an epoch, somewhere in a run.

    As in a run one iterator goes on from epoch to epoch.  What it has prepared while the other side
    was measured is taken from it first, untimed.
    """
    batches = iter(source.training(0, 0, SIZE))

    def epoch() -> float:
        for _ in islice(batches, _PREPARED):
            pass
        data = islice(batches, source.steps_per_epoch)
        found = rate(data, len(source.index), lambda batch: int(batch["mask"].numpy().sum()))
        settle()
        return found

    return epoch


def settle() -> None:
    """Waits until this process has nothing more to do, such as filling a pipeline's buffers."""
    while True:
        begun = time.process_time()
        time.sleep(_LOOK_S)
        if time.process_time() - begun < _IDLE * _LOOK_S:
            return


def keras(path: Path, interpolation: str) -> Callable[[], float]:
    """Examples a second of one epoch of Keras' own data set."""
    import tensorflow as tf
    import tf_keras

    data = tf_keras.utils.image_dataset_from_directory(
        str(path),
        image_size=(SIZE, SIZE),
        batch_size=BATCH,
        shuffle=True,
        seed=1,
        interpolation=interpolation,
    )
    count = len(data.file_paths)
    data = data.prefetch(tf.data.AUTOTUNE)
    return lambda: rate(data, count, lambda batch: len(batch[1]))


def rate(data: Iterable[Any], count: int, of: Callable[[Any], int]) -> float:
    """Examples a second; holds that there are ``count``, as ``of`` counts those of a batch."""
    seen: list[int] = []
    taken = seconds(lambda: seen.extend(of(batch) for batch in data))
    if sum(seen) != count:
        raise AssertionError(f"{sum(seen)} examples of {count} were given")
    return count / taken


def forget(folder: Path) -> None:
    """Drops what the system has in memory of the files of a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(file)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)


def cold(folder: Path, work: Callable[[], float]) -> Callable[[], float]:
    """``work`` after the files of a folder were forgotten."""

    def measured() -> float:
        forget(folder)
        return work()

    return measured
