"""Reads serialized tf.Examples of any writer, only as much of them as is asked for.

A record with a picture is mostly the picture.  What says which class it is of are some bytes
before or behind it, so the features are found by the lengths that stand before all things in the
format (https://protobuf.dev/programming-guides/encoding/), and what is stepped over is not read.
Free of TensorFlow.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BYTES, FLOATS, INTS = 1, 2, 3
"""Numbers of the lists of a ``Feature``, which say its kind."""
KINDS = {BYTES: "bytes", FLOATS: "float", INTS: "int64"}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_NEAR, _FAR = 1 << 16, 1 << 12
"""Bytes that are read at once: where reading goes on nearly where it was, and after a leap."""


class NoExample(Exception):
    """Bytes are no tf.Example."""


class Held:
    """Bytes in memory, to be read at places."""

    def __init__(self, raw: bytes, start: int = 0) -> None:
        self._raw, self._start = raw, start

    def take(self, at: int, size: int) -> bytes:
        """The bytes [at, at + size); raises :class:`NoExample` where there are not so many."""
        first = at - self._start
        if first < 0 or first + size > len(self._raw):
            self._load(at, size)
            first = at - self._start
            if first < 0 or first + size > len(self._raw):
                raise NoExample
        return self._raw[first : first + size]

    def varint(self, at: int) -> tuple[int, int]:
        """(a number, where it ends)."""
        value, shift = 0, 0
        while True:
            first = at - self._start
            inside = 0 <= first < len(self._raw)
            byte = self._raw[first] if inside else self.take(at, 1)[0]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
            if shift > 63:
                raise NoExample

    def _load(self, at: int, size: int) -> None:
        """Nothing more than what is held."""


class Sparse(Held):
    """A file, of which small pieces are read where they are needed.

    Args:
        file: of an open file.
    """

    def __init__(self, file: int) -> None:
        super().__init__(b"")
        self._file = file

    def _load(self, at: int, size: int) -> None:
        near = 0 <= at - self._start - len(self._raw) < _NEAR
        self._raw = os.pread(self._file, max(size, _NEAR if near else _FAR), at)
        self._start = at


class Feature(NamedTuple):
    """Where a feature stands: its kind and the bytes of its list."""

    kind: int
    start: int
    end: int


def features(held: Held, start: int, end: int) -> dict[str, Feature]:
    """The features of the tf.Example in [start, end) by their names.

    Raises:
        NoExample: it is none.
    """
    found: dict[str, Feature] = {}
    for number, _, at, stop in _fields(held, start, end):
        if number != 1:
            continue
        for inner, _, first, last in _fields(held, at, stop):
            if inner == 1:
                name, feature = _entry(held, first, last)
                found[name] = feature
    return found


def _entry(held: Held, start: int, end: int) -> tuple[str, Feature]:
    name, feature = b"", Feature(BYTES, end, end)
    for number, wire, at, stop in _fields(held, start, end):
        if wire == _LENGTH and number == 1:
            name = held.take(at, stop - at)
        elif wire == _LENGTH and number == 2:
            for kind, inner, first, last in _fields(held, at, stop):
                if inner == _LENGTH and kind in KINDS:
                    feature = Feature(kind, first, last)
    return name.decode("utf-8", "backslashreplace"), feature


def _fields(held: Held, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, first byte, end) of each field of a message."""
    while at < end:
        tag, at = held.varint(at)
        number, wire = tag >> 3, tag & 7
        if wire == _LENGTH:
            size, at = held.varint(at)
            stop = at + size
        elif wire == _VARINT:
            _, stop = held.varint(at)
        elif wire in (_FIXED32, _FIXED64):
            stop = at + (4 if wire == _FIXED32 else 8)
        else:
            raise NoExample
        if stop > end or not number:
            raise NoExample
        yield number, wire, at, stop
        at = stop


def first_bytes(held: Held, feature: Feature) -> bytes | None:
    """The first value of a list of bytes; None of an empty one."""
    for number, wire, at, stop in _fields(held, feature.start, feature.end):
        if number == 1 and wire == _LENGTH:
            return held.take(at, stop - at)
    return None


def all_bytes(held: Held, feature: Feature) -> Iterator[bytes]:
    """The values of a list of bytes."""
    for number, wire, at, stop in _fields(held, feature.start, feature.end):
        if number == 1 and wire == _LENGTH:
            yield held.take(at, stop - at)


def numbers(held: Held, feature: Feature) -> NDArray[Any]:
    """The values of a list of floats (float32) or of whole numbers (int64)."""
    kind, plain = (np.int64, _VARINT) if feature.kind == INTS else (np.float32, _FIXED32)
    parts = []
    for number, wire, at, stop in _fields(held, feature.start, feature.end):
        raw = held.take(at, stop - at)
        if number != 1 or wire not in (_LENGTH, plain):
            continue
        if kind is np.int64:
            parts.append(_varints(raw))
        elif len(raw) % 4:
            raise NoExample
        else:
            parts.append(np.frombuffer(raw, "<f4"))
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _varints(raw: bytes) -> NDArray[np.int64]:
    """All numbers of a packed list at once."""
    held = np.frombuffer(raw, np.uint8)
    if not len(held):
        return np.empty(0, np.int64)
    ends = np.flatnonzero(held < 0x80)
    if not len(ends) or ends[-1] != len(held) - 1:
        raise NoExample
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > 10:
        raise NoExample
    place = np.arange(len(held)) - np.repeat(starts, sizes)
    parts = (held & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(parts, starts).astype(np.int64)


def as_wav(samples: NDArray[Any], rate_hz: int) -> bytes:
    """A WAV file of samples of one channel; nothing where there are none, or none of 16 bits.

    Args:
        samples: floats, or whole numbers of 16 bits.
    """
    is_float = samples.dtype.kind == "f"
    if not len(samples) or (not is_float and np.abs(samples).max() > 1 << 15):
        return b""
    width, code = (4, 3) if is_float else (2, 1)  # WAVE_FORMAT_IEEE_FLOAT, _PCM
    most = samples if is_float else np.minimum(samples, (1 << 15) - 1)
    raw = most.astype("<f4" if is_float else "<i2").tobytes()
    form = struct.pack("<HHIIHH", code, 1, rate_hz, rate_hz * width, width, 8 * width)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(raw))
    return b"RIFF" + struct.pack("<I", len(head) + len(raw)) + head + raw
