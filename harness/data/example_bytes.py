"""Takes one large feature out of a tf.Example without parsing it.  Free of TensorFlow.

A parser copies a picture into a message and out of it again, which took longer than to read it from
memory (measured with 55 kB each: half the processor time of reading packed shards).  Here the large
feature is stepped over by the lengths that stand before all things in the format
(https://protobuf.dev/programming-guides/encoding/), and the small ones are left to the parser.
"""

from __future__ import annotations

from typing import TypeAlias

Record: TypeAlias = "bytes | memoryview"
_FIELD_1, _FIELD_2 = 0x0A, 0x12
"""Tags of the fields 1 and 2 of a message, where these hold bytes: ``Example.features``, each entry
of ``Features.feature`` with its key and value, ``Feature.bytes_list``, ``BytesList.value``."""


def take_bytes(record: Record, name: bytes) -> tuple[Record, bytes] | None:
    """The first bytes of the feature ``name``, and all other features.

    Args:
        record: a serialized ``tf.train.Example``.

    Returns:
        (a part of the record, a serialized ``tf.train.Features``); None where the record is built
        in another way than writers of Examples do, so that a parser has to look at it.
    """
    try:
        at = _inside(record, 0, _FIELD_1)
        if _end(record, 0) != len(record):
            return None
        others, found = [], None
        while at < len(record):
            start = at
            inside = _inside(record, start, _FIELD_1)
            at = _end(record, start)
            key = _inside(record, inside, _FIELD_1)
            value = _end(record, inside)
            if bytes(record[key:value]) != name:
                others.append(record[start:at])
            elif found is None:
                found = _only_bytes(record, value, at)
            else:
                return None
    except IndexError:
        return None
    return None if found is None or at != len(record) else (found, b"".join(others))


def _only_bytes(record: Record, at: int, end: int) -> Record | None:
    """The one value of the list of bytes at ``at``, where all of it ends at ``end``."""
    ends = []
    for tag in (_FIELD_2, _FIELD_1, _FIELD_1):
        ends.append(_end(record, at))
        at = _inside(record, at, tag)
    return record[at:end] if set(ends) == {end} else None


def _inside(record: Record, at: int, tag: int) -> int:
    """Where the content of the field at ``at`` begins; IndexError where it has another tag."""
    if record[at] != tag:
        raise IndexError
    at += 1
    while record[at] > 0x7F:
        at += 1
    return at + 1


def _end(record: Record, at: int) -> int:
    """Where the field at ``at`` ends."""
    size, shift = 0, 0
    while True:
        at += 1
        size |= (record[at] & 0x7F) << shift
        if record[at] < 0x80:
            return at + 1 + size
        shift += 7
