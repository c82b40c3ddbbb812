"""Packed sets of random bytes, for tests that copy and read them; no TensorFlow is needed."""

from __future__ import annotations

import hashlib
import random
import struct
from pathlib import Path

import numpy as np
from google_crc32c import value as crc32c

from harness.data.packed import FRAME_BYTES, INDEX, ORDER, VERSION, PackedIndex, open_packed
from harness.data.packed_read import read_records
from harness.runs.files import to_json


def framed(content: bytes) -> bytes:
    """A record as TFRecord has it."""

    def masked(raw: bytes) -> bytes:
        sum_ = crc32c(raw)
        return struct.pack("<I", ((sum_ >> 15 | sum_ << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(content))
    return length + masked(length) + content + masked(content)


def make_set(folder: Path, shards: int = 5, each: int = 4, size: int = 300) -> PackedIndex:
    """A set of ``shards`` files with ``each`` records of ``size`` bytes."""
    folder.mkdir(parents=True)
    made, offsets = [], []
    for number in range(shards):
        draw = random.Random(f"{folder.name} {number}")
        records = [framed(draw.randbytes(size)) for _ in range(each)]
        name, raw = f"data-{number:05d}-of-{shards:05d}.tfrecord", b"".join(records)
        (folder / name).write_bytes(raw)
        offsets += [at * (size + FRAME_BYTES) for at in range(each)]
        sum_ = hashlib.sha256(raw).hexdigest()
        made.append({"file": name, "examples": each, "bytes": len(raw), "sha256": sum_})
    count = shards * each
    entries = {
        "offsets.bin": np.array(offsets, "<u8").tobytes(),
        "labels.bin": np.zeros(count, "<i4").tobytes(),
        "keys.bin": np.arange(count, dtype="<u8").tobytes(),
    }
    for name, raw in entries.items():
        (folder / name).write_bytes(raw)
    digest = hashlib.sha256(repr(made).encode()).hexdigest()
    index = {
        "harness_packed": VERSION,
        "order": ORDER,
        "classes": ["one"],
        "counts": [count],
        "shards": made,
        "digest": f"packed:{digest}",
        "source_digest": "files:0",
        "content_bytes": count * size,
        "options": {},
        "entries": {name: hashlib.sha256(raw).hexdigest() for name, raw in entries.items()},
    }
    (folder / INDEX).write_text(to_json(index))
    return open_packed(folder)


def flip(path: Path, at: int) -> None:
    """Changes one bit of a file, in place."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def records(index: PackedIndex, positions: np.ndarray) -> list[bytes]:
    """What :func:`harness.data.packed_read.read_records` reads."""
    return list(map(bytes, read_records(index, positions)))
