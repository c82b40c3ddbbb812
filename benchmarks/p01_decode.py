"""P1, decoding: photographs from memory to 224x224, against simplejpeg.

Those of 500x375 pixels are decoded in full.  Those of 2000x1500 are decoded as ``data.decode:
scaled`` does, and by the peer as small as it can with at least 224 pixels.

Ours is the feed of a training run, whole: order, lanes, guard against corrupt pictures, batches.
The peer is the fastest JPEG decoder that Python packages offer, in a pool of two threads, with
Pillow's mean over a box, which resizes as ours does: TensorFlow's own operation, called from Python
threads, would make it slower by a third.  Both have two processors and give every photograph once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import feeding, photographs
from benchmarks.rows import Row, compare


def rows() -> Iterator[Row]:
    """Photographs a second."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    feeding.alone()
    contents = photographs.contents()
    ours, theirs, spread = compare(_ours(photographs.folder()), _theirs(contents), repeats=7)
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
    large = photographs.large()
    contents = photographs.contents(large)
    small = feeding.SIZE
    ours, theirs, spread = compare(_ours(large, small), _theirs(contents, small), repeats=7)
    yield Row(
        id="P1",
        work="the same of 2000x1500 JPEGs, with data.decode: scaled",
        peer="simplejpeg with a least height and width, and the same",
        ours=ours,
        theirs=theirs,
        target=0.90,
        better="higher",
        spread=spread,
        note=f"{len(contents)} photographs in memory, photographs a second",
    )


def _ours(folder: Path, least: int = 0) -> Callable[[], float]:
    import tensorflow as tf

    from harness.data.decode import decode

    contents = photographs.contents(folder)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(names, tf.range(len(names), dtype=tf.int64)), -1
    )
    held = tf.constant(contents)
    return feeding.epochs(
        feeding.feed(folder, lambda name: decode(tf.gather(held, table.lookup(name)), least))
    )


def _theirs(contents: list[bytes], least: int = 0) -> Callable[[], float]:
    from PIL import Image

    side = (feeding.SIZE, feeding.SIZE)

    def one(content: bytes) -> np.ndarray:
        picture = Image.fromarray(_decoded(content, least))
        return np.asarray(picture.resize(side, Image.Resampling.BOX))

    pool = ThreadPoolExecutor(2)
    return lambda: feeding.rate(pool.map(one, contents), len(contents), lambda image: 1)


def _decoded(content: bytes, least: int) -> np.ndarray:
    import simplejpeg

    pixels: np.ndarray = simplejpeg.decode_jpeg(content, min_height=least, min_width=least)
    return pixels
