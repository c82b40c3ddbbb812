"""TFRecord files written with TensorFlow's own writer, and damage to them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf


def example(values: Mapping[str, Any]) -> bytes:
    """A serialized tf.Example; values are bytes, text, numbers or lists of one kind."""
    return tf.train.Example(
        features=tf.train.Features(feature={name: _feature(one) for name, one in values.items()})
    ).SerializeToString(deterministic=True)


def _feature(value: Any) -> tf.train.Feature:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    if values and isinstance(values[0], str | bytes):
        raw = [one.encode() if isinstance(one, str) else one for one in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=raw))
    if values and isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def write_records(file: Path, records: Iterable[bytes], compression: str = "") -> Path:
    """One file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(file), compression) as writer:
        for record in records:
            writer.write(record)
    return file


def write_tfds(folder: Path, splits: Mapping[str, Sequence[Sequence[bytes]]], **info: Any) -> Path:
    """A directory as tensorflow-datasets 4.9 writes it (JSON copied from one), by split the
    records of each file; features ``image``, ``id`` (text), ``label`` of the classes in ``names``.
    """
    names = info.pop("names")
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    held = []
    for name, files in splits.items():
        for number, records in enumerate(files):
            file = f"little-{name}.tfrecord-{number:05d}-of-{len(files):05d}"
            write_records(folder / file, records)
        lengths = [str(len(records)) for records in files]
        one = {"filepathTemplate": template, "name": name, "numBytes": "975"}
        held.append(one | {"shardLengths": lengths})
    keys = {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}}
    facts = {"fileFormat": "tfrecord", "name": "little", "splits": held, "supervisedKeys": keys}
    (folder / "dataset_info.json").write_text(json.dumps(facts | info | {"version": "1.0.0"}))
    core = "tensorflow_datasets.core.features"
    shape = {"dimensions": ["-1", "-1", "3"]}
    features = {
        "id": {"pythonClassName": f"{core}.text_feature.Text", "text": {}},
        "image": {
            "image": {"dtype": "uint8", "shape": shape},
            "pythonClassName": f"{core}.image_feature.Image",
        },
        "label": {
            "classLabel": {"numClasses": str(len(names))},
            "pythonClassName": f"{core}.class_label_feature.ClassLabel",
        },
    }
    (folder / "features.json").write_text(json.dumps({"featuresDict": {"features": features}}))
    (folder / "label.labels.txt").write_text("\n".join(names) + "\n")
    return folder


def record_start(file: Path, number: int) -> int:
    """The byte at which a record of a file begins."""
    raw, at = file.read_bytes(), 0
    for _ in range(number):
        at += 16 + struct.unpack_from("<Q", raw, at)[0]
    return at


def flip(file: Path, at: int) -> None:
    """Changes one byte."""
    raw = bytearray(file.read_bytes())
    raw[at] ^= 0xFF
    file.write_bytes(bytes(raw))
