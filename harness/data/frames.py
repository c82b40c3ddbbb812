"""TFRecord files: where each record stands.  Free of TensorFlow.

A file is records one after the other: the length of one (uint64), a checksum of these bytes, the
record, a checksum of it (https://www.tensorflow.org/tutorials/load_data/tfrecord).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from harness.data.wire import Held, NoExample
from harness.errors import DataError

LENGTH, CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
HEAD = LENGTH.size + CHECKSUM.size
FRAME = HEAD + CHECKSUM.size
"""Bytes before a record, and around it."""
_DELTA, _POLYNOMIAL = 0xA282EAD8, 0x82F63B78
_GZIP, _ZLIB = b"\x1f\x8b", b"\x78"


class Broken(Exception):
    """The records of a file cannot be followed any further; says why.

    Attributes:
        at: the byte at which the last one begins.
    """

    def __init__(self, at: int, why: str) -> None:
        super().__init__(why)
        self.at = at


def frames(held: Held, size: int) -> Iterator[tuple[int, int]]:
    """(where the record begins, its bytes without what is around it) of each record.

    Args:
        size: bytes of the file.

    Raises:
        Broken: the file ends in the midst of a record, or a length is not what was written.
    """
    at = 0
    while at < size:
        try:
            head = held.take(at, HEAD)
        except NoExample:
            raise Broken(at, "its file ends in the midst of it") from None
        (length,) = LENGTH.unpack_from(head)
        if masked(crc32c(head[: LENGTH.size])) != CHECKSUM.unpack_from(head, LENGTH.size)[0]:
            raise Broken(at, "its length has a wrong checksum, so what follows cannot be found")
        if at + FRAME + length > size:
            raise Broken(at, "its file ends in the midst of it")
        yield at, length
        at += FRAME + length


def is_whole(raw: bytes) -> bool:
    """Whether a record with what is around it has the right length and checksum."""
    from google_crc32c import value  # which a plan need not have

    if len(raw) < FRAME or LENGTH.unpack_from(raw)[0] != len(raw) - FRAME:
        return False
    return bool(
        masked(value(raw[HEAD : -CHECKSUM.size]))
        == CHECKSUM.unpack_from(raw, len(raw) - CHECKSUM.size)[0]
    )


def refuse_compressed(path: Path, file: int) -> None:
    """Holds that a file is not compressed as a whole, as TFRecord files may be.

    Raises:
        DataError: it is.  No record of it could be read without all before it, so a run could
            not go on at any step.
    """
    head = os.pread(file, HEAD, 0)
    if (
        len(head) == HEAD
        and masked(crc32c(head[: LENGTH.size])) == CHECKSUM.unpack_from(head, LENGTH.size)[0]
    ):
        return  # a length may begin with any bytes
    kind = "GZIP" if head.startswith(_GZIP) else "ZLIB" if head.startswith(_ZLIB) else None
    if kind is not None:
        raise DataError(
            f"{path} is compressed as a whole ({kind}), so its records cannot be read one by one",
            allowed="TFRecord files that are not compressed",
            action="decompress it once (of GZIP: zcat FILE > NEW), or write it again without "
            "compression_type",
        )
    if head:
        raise DataError(
            f"{path} is no TFRecord file",
            got=f"the first bytes {head!r}",
            allowed="a length and its checksum",
            action="name the folder, file or pattern of the TFRecord files alone",
        )


def masked(checksum: int) -> int:
    """As TFRecord stores checksums: turned by 15 bits, and a constant added."""
    return ((checksum >> 15 | checksum << 17) + _DELTA) & 0xFFFFFFFF


def crc32c(raw: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes, in plain Python: of lengths, which are eight."""
    checksum = 0xFFFFFFFF
    for byte in raw:
        checksum = _TABLE[(checksum ^ byte) & 0xFF] ^ checksum >> 8
    return checksum ^ 0xFFFFFFFF


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(map(_entry, range(256)))
