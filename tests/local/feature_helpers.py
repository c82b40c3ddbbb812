"""Pictures of three classes, and the features of a small backbone computed of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from PIL import Image

from harness.data.augment import Augmenter
from harness.data.content_feed import ContentFeed
from harness.data.feature_feed import FeatureFeed
from harness.data.feature_read import FeatureReader, Room
from harness.data.feature_store import Entry, Layout
from harness.data.index import folder_index
from harness.data.known import known_of
from harness.data.lanes import lane_count
from harness.data.order import Order, canonical_rows
from harness.data.pack import pack
from harness.data.pack_plan import PackOptions
from harness.data.packed_examples import packed_examples
from harness.data.packing import Packing
from harness.distribute.single import SingleDevice
from harness.spec.models_augment import Augment
from harness.train.feature_cache import Extraction, Source

SIZE, EXAMPLES = 8, 61


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """61 pictures of three classes, of very different numbers, as a folder and packed."""
    root = tmp_path_factory.mktemp("pictures") / "folder"
    rng = np.random.default_rng(3)
    for at in range(EXAMPLES):
        path = root / "abc"[at % 3 if at < 30 else 0] / f"{at:02}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 256, (12, 9 + at % 5, 3), np.uint8)).save(path)
    (root / "b" / "01.png").write_bytes(b"no picture")
    index = folder_index(root)
    packing = Packing(
        index, canonical_rows(EXAMPLES), root.parent / "packed", PackOptions(1500), None
    )
    pack(packing)
    done = packing.finish()
    assert done is not None
    return {"folder": lambda: folder_index(root), "packed": lambda: packed_examples(done.root)}


@pytest.fixture(scope="module")
def backbone():
    """Pictures to two numbers of each channel."""
    pictures = tf_keras.Input((SIZE, SIZE, 3), dtype=tf.uint8)
    x = tf_keras.layers.Rescaling(1 / 255)(pictures)
    x = tf_keras.layers.Conv2D(6, 3, kernel_initializer=tf_keras.initializers.GlorotUniform(1))(x)
    return tf_keras.Model(pictures, tf_keras.layers.GlobalAveragePooling2D()(x))


def computed(backbone, index, root: Path, *, copies=(None,), between=lambda: None, dtype="float32"):
    """Readers of the features of ``index``, one for each copy."""
    known, readers = known_of(index, index), []
    extraction = Extraction(backbone, SingleDevice(), print)
    for copy in copies:
        entry = Entry(root, {"copy": copy}, Layout.of(known.positions, (6,), dtype))
        entry.make()
        feed = ContentFeed(index, augment=None if copy is None else AUGMENTER)
        extraction.complete(entry, Source(feed, known, 8, SIZE, copy or 0), "all", between)
        readers.append(FeatureReader(entry, Room(0)))
    return readers


AUGMENTER = Augmenter(Augment(flip="both", crop_area=(0.5, 1.0), brightness=0.2), 5)
WEIGHTS = (1.0, 2.5, 4.0)


def order_of(examples: int, batch: int = 8) -> Order:
    return Order(examples, batch, lane_count(batch, None), 5, 4, 2)


def cached(index, readers, source=None, recorder=None, **more) -> FeatureFeed:
    return FeatureFeed(
        known_of(index, source if source is not None else index),
        readers,
        examples=len(index),
        blame=lambda row, name: ContentFeed(index).blame(row, name),
        recorder=recorder,
        **more,
    )
