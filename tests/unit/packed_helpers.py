"""Pictures that are packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from harness.data.index import folder_index
from harness.data.order import canonical_rows
from harness.data.pack import pack
from harness.data.pack_plan import PackOptions
from harness.data.packed import PackedIndex
from harness.data.packing import Packing

CLASSES = ["blue", "green", "red"]


@pytest.fixture
def source(tmp_path: Path, write_pictures: Callable[..., Path]) -> Path:
    return write_pictures(tmp_path / "source", CLASSES, 7, 16)


def packing(source: Path, folder: Path, **options: int) -> Packing:
    index = folder_index(source)
    asked = PackOptions(**{"shard_bytes": 600, **options})
    return Packing(index, canonical_rows(len(index)), folder, asked, None)


def packed(source: Path, folder: Path, **options: int) -> PackedIndex:
    made = packing(source, folder, **options)
    pack(made)
    done = made.finish()
    assert done is not None
    return done


def records(index: PackedIndex) -> list[dict[str, object]]:
    """All examples, as any TensorFlow program reads them."""
    files = [str(index.root / shard.file) for shard in index.shards]
    features = {
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/class/text": tf.io.FixedLenFeature([], tf.string),
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
    }
    found = []
    for raw in tf.data.TFRecordDataset(files):
        parsed = tf.io.parse_single_example(raw, features)
        found.append({name: value.numpy() for name, value in parsed.items()})
    return found
