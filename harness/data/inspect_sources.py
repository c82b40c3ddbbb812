"""Examples one by one, wherever they lie, for those who look at some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from harness.data.corrupt import picture_kind, probe_content
from harness.data.decode import decode
from harness.data.index import ExampleIndex
from harness.data.packed_examples import PackedExamples
from harness.data.packed_features import Features
from harness.data.packed_read import Damaged, Piece
from harness.data.records import RecordIndex, Unreadable
from harness.data.sources import Load, reason_for


class Given(NamedTuple):
    """An example before it is decoded: its name, what :meth:`Source.image` takes, and why it
    cannot be read, if it cannot."""

    name: str
    content: bytes = b""
    fault: str = ""


class Source(Protocol):
    """Where examples come from, by their numbers in the index."""

    def __len__(self) -> int: ...

    def some(self, rows: Sequence[int]) -> list[Given]:
        """Reads examples; from any thread."""

    def image(self, content: tf.Tensor) -> tf.Tensor:
        """Graph code from a string scalar to uint8 [height, width, 3]; fails where it is broken."""

    def fault(self, given: Given) -> str:
        """Why :meth:`image` has failed on an example."""

    def kind(self, given: Given) -> str:
        """What kind of picture it is; empty where that is not known."""


def source_of(index: ExampleIndex | PackedExamples, load: Load | None, least: int = 0) -> Source:
    """The examples of an index.

    Args:
        load: of a plug-in source; None where there are files.
        least: how small they may be decoded, see :func:`harness.data.decode.decode`.
    """
    if isinstance(index, PackedExamples):
        return _Packed(index, least)
    if isinstance(index, RecordIndex):
        return _Records(index, least)
    return _Files(index, least) if load is None else _Plugin(index, load)


def kind_of(content: bytes) -> str:
    """What a picture is, by its first bytes."""
    return picture_kind(content[:16]) or "other"


class _Contents:
    """What is common to those who have the bytes of a picture."""

    _least: int

    def image(self, content: tf.Tensor) -> tf.Tensor:
        return decode(content, self._least)

    def fault(self, given: Given) -> str:
        return probe_content(given.content)

    def kind(self, given: Given) -> str:
        return kind_of(given.content)


class _Files(_Contents):
    """Files of a folder or a manifest."""

    def __init__(self, index: ExampleIndex, least: int) -> None:
        self._index, self._least = index, least

    def __len__(self) -> int:
        return len(self._index)

    def some(self, rows: Sequence[int]) -> list[Given]:
        return [self._read(self._index.names[row]) for row in rows]

    def _read(self, name: str) -> Given:
        try:
            return Given(name, (self._index.root / name).read_bytes())
        except OSError:
            return Given(name, fault=reason_for(self._index, None, name))


class _Packed(_Contents):
    """Records of a packed set; rows follow the canonical order."""

    def __init__(self, examples: PackedExamples, least: int) -> None:
        self._examples, self._least = examples, least
        self._features = Features.of(examples.packed.medium)

    def __len__(self) -> int:
        return len(self._examples)

    def some(self, rows: Sequence[int]) -> list[Given]:
        records, positions = self._examples.records(np.asarray(rows, np.int64))
        return [
            self._parsed(record, position)
            for record, position in zip(records, positions.tolist(), strict=True)
        ]

    def _parsed(self, record: bytes, position: int) -> Given:
        packed = self._examples.packed
        if not record:
            return Given(packed.place(position), fault=_damage(self._examples, position))
        values, names = tf.train.Example.FromString(record).features.feature, self._features
        name = values[names.filename].bytes_list.value[0].decode()
        return Given(name, values[names.encoded].bytes_list.value[0])


class _Records(_Contents):
    """Records of TFRecord files of others."""

    def __init__(self, index: RecordIndex, least: int) -> None:
        self._index, self._least = index, least

    def __len__(self) -> int:
        return len(self._index)

    def some(self, rows: Sequence[int]) -> list[Given]:
        return [self._read(row) for row in rows]

    def _read(self, row: int) -> Given:
        name = self._index.names[row]
        try:
            return Given(name, self._index.content(row))
        except Unreadable as fault:
            return Given(name, fault=str(fault))


class _Plugin:
    """Examples that a plug-in loads by their names."""

    def __init__(self, index: ExampleIndex, load: Load) -> None:
        self._index, self._load = index, load

    def __len__(self) -> int:
        return len(self._index)

    def some(self, rows: Sequence[int]) -> list[Given]:
        names = (self._index.names[row] for row in rows)
        return [Given(name, name.encode()) for name in names]

    def image(self, content: tf.Tensor) -> tf.Tensor:
        return self._load(content)

    def fault(self, given: Given) -> str:
        return reason_for(self._index, self._load, given.name)

    def kind(self, given: Given) -> str:
        return ""


def _damage(examples: PackedExamples, position: int) -> str:
    try:
        Piece(examples.packed, position, 1).record(0)
    except Damaged as fault:
        return str(fault)
    return "could not be read before, can be now"
