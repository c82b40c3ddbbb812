"""P1, decoding: photographs of 500x375 pixels from memory to 224x224, against simplejpeg.

Ours is the feed of a training run, whole: order, lanes, guard against corrupt pictures, batches.
The peer is the fastest JPEG decoder that Python packages offer, in a pool of two threads, with
Pillow's mean over a box, which resizes as ours does: TensorFlow's own operation, called from Python
threads, would make it slower by a third.  Both have two processors and give every photograph once.
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
        peer="simplejpeg and Pillow's box resizing in two threads",
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
    from PIL import Image

    side = (feeding.SIZE, feeding.SIZE)

    def one(content: bytes) -> np.ndarray:
        picture = Image.fromarray(simplejpeg.decode_jpeg(content))
        return np.asarray(picture.resize(side, Image.Resampling.BOX))

    pool = ThreadPoolExecutor(2)
    return lambda: feeding.rate(pool.map(one, contents), len(contents), lambda image: 1)
