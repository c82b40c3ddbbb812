"""Takes one large feature out of a tf.Example without parsing it.  Free of TensorFlow.

A parser copies a picture into a message and out of it again, which took longer than to read it from
memory (measured with 55 kB each: half the processor time of reading packed shards).  Here the large
feature is found by its name and by the lengths that stand before all things in the format
(https://protobuf.dev/programming-guides/encoding/), and the small ones around it are left to the
parser.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeAlias

Record: TypeAlias = "bytes | memoryview"
_FIELD_1, _FIELD_2 = 0x0A, 0x12
"""Tags of the fields 1 and 2 of a message, where these hold bytes: ``Example.features``, each entry
of ``Features.feature`` with its key and value, ``Feature.bytes_list``, ``BytesList.value``."""
_HEAD = 1024
"""Bytes of a record in which the feature is looked for."""


class Taken(NamedTuple):
    """A large feature, and what stands around it.

    Attributes:
        value: a part of the record, not a copy.
        before, behind: each a serialized ``tf.train.Features``, if both can be parsed as such.
            Only then it is sure that ``value`` is what a parser would find, and only if neither
            has a feature of the same name.
    """

    value: Record
    before: bytes
    behind: bytes


def take_bytes(record: Record, name: bytes) -> Taken | None:
    """The first bytes of the feature ``name``, and the features before and behind it.

    Args:
        record: a serialized ``tf.train.Example``.

    Returns:
        None where the record is built in another way than writers of Examples do, or the feature
        is not near its beginning, so that a parser has to look at it.
    """
    head = bytes(record[:_HEAD])
    key = _key(name)
    at = head.find(key)
    if at < 0 or head[0] != _FIELD_1:
        return None
    try:
        size, first = _length(head, 1)
        value, inside = _length(head, at + len(key))
        end = inside + value
        # A Feature, a BytesList and the bytes stand in one another and end at one place.
        for tag in (_FIELD_1, _FIELD_1):
            if head[inside] != tag:
                return None
            size_inside, inside = _length(head, inside + 1)
            if inside + size_inside != end:
                return None
    except IndexError:
        return None
    start = at - 1 - _size_of_length(end - at)
    if first + size != len(record) or end > len(record) or start < first:
        return None
    if head[start] != _FIELD_1 or _length(head, start + 1) != (end - at, at):
        return None
    return Taken(record[inside:end], head[first:start], bytes(record[end:]))


def only_bytes(features: bytes, name: bytes) -> bytes | None:
    """The bytes of the feature ``name`` of a serialized ``tf.train.Features``.

    Returns:
        None where there are other features, or it is written in another way than writers do.
    """
    before = _before(name, len(features))
    return features[len(before) :] if before and features.startswith(before) else None


@lru_cache
def _key(name: bytes) -> bytes:
    """What stands between the length of the entry of a map and that of its value."""
    return bytes([_FIELD_1]) + _written(len(name)) + name + bytes([_FIELD_2])


@lru_cache(1024)
def _before(name: bytes, size: int) -> bytes:
    """What stands before the bytes of the only feature ``name`` of Features of ``size`` bytes."""
    # Five lengths of ten bytes at most, and five tags.
    for length in range(max(0, size - len(name) - 55), size):
        before, field = b"", bytes([_FIELD_1])
        for lead in (field, field, _key(name), field):
            before = lead + _written(len(before) + length) + before
        if len(before) + length == size:
            return before
    return b""


def _written(length: int) -> bytes:
    """A length as it is written: seven bits a byte, the lowest first."""
    written = bytearray()
    while length > 0x7F:
        written.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*written, length])


def _size_of_length(length: int) -> int:
    return max(1, (length.bit_length() + 6) // 7)


def _length(raw: bytes, at: int) -> tuple[int, int]:
    """The length that is written at ``at``, and where it ends; IndexError where it is cut."""
    length = raw[at]
    at += 1
    if length < 0x80:
        return length, at
    length &= 0x7F
    shift = 7
    while (byte := raw[at]) > 0x7F:
        length |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return length | byte << shift, at + 1
