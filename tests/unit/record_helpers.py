"""TFRecord files written with TensorFlow's own writer, and damage to them."""

from __future__ import annotations

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
