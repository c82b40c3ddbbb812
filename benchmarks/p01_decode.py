"""P1, decoding: photographs of 500x375 pixels from memory to 224x224, against simplejpeg.

Ours is the feed of a training run, whole: order, lanes, guard against corrupt pictures, batches.
The peer is the fastest JPEG decoder that Python packages offer, in a pool of two threads, and the
same resizing.  Both have two processors and give every photograph once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks import feeding, photographs
from benchmarks.rows import Row, compare


def rows() -> Iterator[Row]:
    """Photographs a second."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    feeding.alone()
    contents = photographs.contents()
    ours, theirs, spread = compare(_ours(contents), _theirs(contents), repeats=7)
    yield Row(
        id="P1",
        work="decode 500x375 JPEGs and resize them to 224",
        peer="simplejpeg in two threads, the same resizing",
        ours=ours,
        theirs=theirs,
        target=0.90,
        better="higher",
        spread=spread,
        note=f"{len(contents)} photographs in memory, photographs a second",
    )


def _ours(contents: list[bytes]) -> Callable[[], float]:
    import tensorflow as tf

    from harness.data.decode import decode

    folder = photographs.folder()
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(names, tf.range(len(names), dtype=tf.int64)), -1
    )
    held = tf.constant(contents)
    return feeding.epochs(
        feeding.feed(folder, lambda name: decode(tf.gather(held, table.lookup(name))))
    )


def _theirs(contents: list[bytes]) -> Callable[[], float]:
    import simplejpeg
    import tensorflow as tf

    from harness.data.decode import fit, to_uint8

    pixels = tf.TensorSpec([None, None, 3], tf.uint8)

    @tf.function(input_signature=[pixels], autograph=False)
    def resized(image: tf.Tensor) -> tf.Tensor:
        return to_uint8(fit(image, feeding.SIZE))

    def one(content: bytes) -> np.ndarray:
        return resized(tf.constant(simplejpeg.decode_jpeg(content))).numpy()

    pool = ThreadPoolExecutor(2)
    return lambda: feeding.rate(pool.map(one, contents), len(contents), lambda image: 1)
