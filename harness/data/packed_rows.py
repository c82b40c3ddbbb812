"""Rows out of packed shards, in the same order as from the folder that was packed.

They are read ahead of the loop, see :mod:`harness.data.packed_stream`; memory does not grow with
the set, and any step can be the first one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from harness.data.content import Content, content_of
from harness.data.example_bytes import only_bytes, take_bytes
from harness.data.media import IMAGE
from harness.data.order import Order, canonical_position, sorted_row
from harness.data.packed_examples import PackedExamples
from harness.data.packed_features import Features
from harness.data.packed_read import Damaged, Piece
from harness.data.packed_stream import Streams, stream
from harness.data.packed_targets import TargetRows
from harness.data.rows import ENDLESS, Chunk, Listed, Share, plain

_KINDS = {
    "row": tf.int64,
    "mask": tf.float32,
    "epoch": tf.int64,
    "name": tf.string,
    "label": tf.int32,
    "weight": tf.float32,
    "content": tf.string,
}
_EVALUATION_BYTES = 64 << 20


class PackedRows:
    """The :class:`~harness.data.rows.Rows` of a packed set.

    Args:
        look_up: see :class:`~harness.data.rows.NamedRows`; records are read with their neighbours,
            whether they are needed or not.
        content: what decodes them.
    """

    def __init__(
        self,
        examples: PackedExamples,
        look_up: Callable[[Chunk], Chunk] | None = None,
        content: Content | None = None,
    ) -> None:
        self._content = content or content_of("image")
        self._look_up = look_up or (lambda chunk: chunk)
        self._examples = examples
        self._streams = Streams()
        self._label_of = np.array(examples.label_of, np.int32)
        targets = examples.targets
        self._targets = TargetRows(examples.packed, targets) if targets is not None else None
        self._features = Features.of(examples.packed.medium)

    def training(self, order: Order, share: Share) -> tf.data.Dataset:
        """See the protocol."""
        batch = order.per_lane * share.lanes
        arranged = share.arrange(np.arange(batch)[None])[0].reshape(-1, share.chunk)

        def begin(number: int) -> Generator[dict[str, np.ndarray], None, None]:
            ahead, skipped = divmod(number, len(arranged))
            rows = stream(
                self._examples,
                order,
                share.start + ahead,
                share.first_lane,
                share.lanes,
                self._parse,
            )
            # Closed with this one, which ends the threads that read ahead.
            with contextlib.closing(rows):
                for one in rows:
                    known = self._known(one.parsed, one.row, one.mask, one.epoch)
                    for part in arranged[skipped:]:
                        yield {name: vector[part] for name, vector in known.items()}
                    skipped = 0

        def read(number: np.int64) -> tuple[np.ndarray, ...]:
            found = self._streams.ask(begin, int(number), begin)
            return tuple(found[name] for name in _KINDS)

        numbers = tf.data.Dataset.range(ENDLESS)
        return numbers.map(
            plain(lambda number: self._look_up(self._chunk(read, number, share.chunk)))
        )

    def evaluation(
        self, batch: int, start: int, end: int, chunk: int, listed: Listed | None = None
    ) -> tf.data.Dataset:
        """See the protocol; all of them in canonical order."""
        n, epoch = (len(self._examples), 0) if listed is None else (listed.examples, listed.epoch)
        size = max(1.0, self._examples.example_bytes) * (end - start)
        at_once = batch * max(1, int(_EVALUATION_BYTES / size))

        def read(first: np.int64) -> tuple[np.ndarray, ...]:
            firsts = np.arange(int(first), min(int(first) + at_once, n), batch)
            at = (firsts[:, None] + np.arange(start, end)).reshape(-1)
            rank = np.minimum(at, n - 1)
            rank = rank if listed is None else listed.ranks(rank)
            records, positions = self._examples.records(rank)
            row = sorted_row(positions, len(self._examples.packed))
            parsed = [self._parse(record) for record in records]
            known = self._known(parsed, row, (at < n).astype(np.float32), np.full_like(row, epoch))
            return tuple(known[name] for name in _KINDS)

        windows = tf.data.Dataset.range(0, n, at_once)
        windows = windows.map(plain(lambda first: self._chunk(read, first, None))).prefetch(1)
        chunks = windows.unbatch().batch(chunk, drop_remainder=True)
        return chunks.map(plain(self._look_up))

    def image(self, example: Chunk) -> tf.Tensor:
        """See the protocol."""
        return self._content.decode(example["content"])

    def _parse(self, record: bytes | memoryview) -> tuple[Any, ...]:
        """:func:`parse_record`, as a plain tuple: that alone is never gone through by the collector
        of garbage, which took 7 % of the time with thousands read ahead."""
        return tuple(parse_record(record, self._features))

    def blame(self, row: int, name: str) -> tuple[str, str]:
        """See the protocol; where the name is lost it says where the record stands."""
        packed = self._examples.packed
        position = int(canonical_position(np.array([row]), len(packed))[0])
        try:
            record = Piece(packed, position, 1).record(0)
        except Damaged as fault:
            return name or packed.place(position), str(fault)
        parsed = parse_record(record, self._features)
        return name or parsed.name.decode(), self._content.fault_in(parsed.encoded)

    def _known(
        self,
        parsed: Sequence[tuple[Any, ...]],
        row: np.ndarray,
        mask: np.ndarray,
        epoch: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """All that is known of some examples; no content where one is damaged."""
        contents, names, labels, weights = zip(*parsed, strict=True)
        name, content = np.empty(len(parsed), object), np.empty(len(parsed), object)
        name[:], content[:] = names, contents
        label = self._label_of[list(labels)]
        found = (row, mask, epoch, name, label, np.array(weights, np.float32), content)
        known = dict(zip(_KINDS, found, strict=True))
        if self._targets is not None:
            positions = canonical_position(row, len(self._examples.packed))
            known["label"], usable = self._targets.at(positions)
            # Of what nothing is known the place is kept, as of a damaged one.
            known["mask"] = mask * usable
        return known

    def _chunk(
        self,
        read: Callable[[np.int64], tuple[np.ndarray, ...]],
        number: tf.Tensor,
        rows: int | None,
    ) -> Chunk:
        """Graph code of what ``read`` gives for a number: vectors of ``rows``."""
        kinds, several = dict(_KINDS), []
        if self._targets is not None:
            kinds["label"], several = tf.float32, [len(self._examples.classes)]
        found = tf.numpy_function(read, [number], list(kinds.values()))
        for name, vector in zip(kinds, found, strict=True):
            vector.set_shape([rows, *several] if name == "label" else [rows])
        return dict(zip(kinds, found, strict=True))


OF_PICTURES = Features.of(IMAGE.name)


class Parsed(NamedTuple):
    """What training needs of a record."""

    encoded: bytes
    name: bytes
    label: int
    weight: float = 1.0


_NOTHING = Parsed(b"", b"", 0)


def parse_record(record: bytes | memoryview, features: Features = OF_PICTURES) -> Parsed:
    """What stands in a record; nothing where it is empty or no tf.Example.

    TensorFlow's parsing operation takes longer, for it has every record copied once more on the way
    in and out.
    """
    found = _found(record, features)
    if found is not None:
        return found
    try:
        feature = tf.train.Example.FromString(bytes(record)).features.feature
    except DecodeError:
        return _NOTHING
    encoded = _first(feature[features.encoded].bytes_list.value, b"")
    return _small(feature, features, _NOTHING)._replace(encoded=encoded)


def _found(record: bytes | memoryview, features: Features) -> Parsed | None:
    """As :func:`parse_record`, without a look at the large feature; None where that must be."""
    encoded, name = _names(features)
    taken = take_bytes(record, encoded)
    if taken is None:
        return None
    try:
        before = _before(taken.before, features)
        if before is None:
            return None
        # Most records have but their name there.
        said = only_bytes(taken.behind, name)
        if said is not None:
            return Parsed(bytes(taken.value), said, before.label, before.weight)
        behind = tf.train.Features.FromString(taken.behind).feature
    except DecodeError:
        return None
    if features.encoded in behind:
        return None
    return _small(behind, features, before)._replace(encoded=bytes(taken.value))


@lru_cache
def _names(features: Features) -> tuple[bytes, bytes]:
    return features.encoded.encode(), features.filename.encode()


@lru_cache(4096)
def _before(part: bytes, features: Features) -> Parsed | None:
    """What stands before the large feature: mostly the class, so the same of many records."""
    feature = tf.train.Features.FromString(part).feature
    return None if features.encoded in feature else _small(feature, features, _NOTHING)


def _small(feature: Mapping[str, Any], features: Features, otherwise: Parsed) -> Parsed:
    """What some features say; ``otherwise`` where they say nothing."""
    return Parsed(
        b"",
        _first(feature[features.filename].bytes_list.value, otherwise.name),
        _first(feature[features.label].int64_list.value, otherwise.label),
        _first(feature[features.weight].float_list.value, otherwise.weight),
    )


def _first(values: Sequence[Any], otherwise: Any) -> Any:
    return values[0] if values else otherwise
