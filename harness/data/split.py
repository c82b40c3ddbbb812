"""Validation examples out of the training examples.  Free of TensorFlow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.index import ExampleIndex
from harness.errors import DataError, SpecError

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, None))
_ALL = (1 << 64) - 1


def split_validation(
    index: ExampleIndex, fraction: float, seed: int
) -> tuple[ExampleIndex, ExampleIndex]:
    """Splits into (train, validation), class by class; see :func:`held_back`.

    A class of one example stays in training, which ``notes`` of the second says.

    Raises:
        SpecError: ``fraction`` is not between 0 and 1.
        DataError: no class has two examples, so validation would be empty.
    """
    keys = np.fromiter(map(name_key, index.names), np.uint64, len(index))
    labels = np.asarray(index.labels, np.int64)
    bits = held_back([(keys, labels)], len(index.classes), fraction, seed)
    held = np.unpackbits(bits, count=len(index), bitorder="little").astype(bool)
    notes = [
        f"class {name!r} has one example: it stays in training, not in validation"
        for name, count in index.counts().items()
        if count == 1
    ]
    train, validation = np.flatnonzero(~held).tolist(), np.flatnonzero(held).tolist()
    return index.subset(train, index.notes), index.subset(validation, tuple(notes))


def held_back(
    chunks: Iterable[tuple[NDArray[Any], NDArray[Any]]], classes: int, fraction: float, seed: int
) -> NDArray[np.uint8]:
    """Which examples are validation examples, as bits (``np.unpackbits(bitorder="little")``).

    An example is one when its draw, a hash of (seed, key), is below ``fraction``.  So adding or
    removing others never moves it, and the share of a class is ``fraction`` on average, not
    exactly.  One exception keeps each class on both sides: where all draws of a class fall on one
    side, its smallest goes to validation, or its largest stays in training.  A class of one
    example stays in training.

    Args:
        chunks: (keys, labels) of some examples each, a multiple of 8 of them but in the last:
            :func:`name_key`, uint64, and rows of the classes.
        classes: how many there are.

    Raises:
        SpecError: ``fraction`` is not between 0 and 1.
        DataError: no class has two examples.
    """
    if not 0 < fraction < 1:
        raise SpecError(
            "the validation fraction must lie between 0 and 1",
            got=str(fraction),
            path="data.validation.fraction",
        )
    count, below = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    least, most = np.full(classes, 2.0), np.full(classes, -1.0)
    least_at, most_at = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    bits: list[NDArray[np.uint8]] = []
    start = 0
    for keys, labels in chunks:
        drawn = draws(keys, seed)
        held = drawn < fraction
        bits.append(np.packbits(held, bitorder="little"))
        count += np.bincount(labels, minlength=classes)
        below += np.bincount(labels[held], minlength=classes)
        for extreme, at, best in ((least, least_at, np.minimum), (most, most_at, np.maximum)):
            best.at(extreme, labels, drawn)
            rows = np.flatnonzero(drawn == extreme[labels])
            at[labels[rows]] = start + rows
        start += len(keys)
    if not (count > 1).any():
        raise DataError(
            "no class has the two examples that a split needs",
            action="add examples, give data.validation a path of its own, or set it to null",
            path="data.validation",
        )
    packed = np.concatenate(bits)
    _set(packed, least_at[(count > 1) & (below == 0)], True)
    _set(packed, most_at[(count > 0) & (below == count)], False)
    return packed


def name_key(name: str) -> int:
    """64 bits that stand for a name: BLAKE2b."""
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"harness.name")
    return int.from_bytes(digest.digest(), "little")


def draws(keys: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Uniform in [0, 1): a hash of (seed, key) for each uint64 key.

    The finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014), of which the upper 53 bits are taken.
    """
    seeded = np.array([(seed + 1) * _GOLDEN & _ALL], np.uint64)
    mixed = _mixed(keys.astype(np.uint64) ^ _mixed(seeded))
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    for shift, factor in _MIX:
        values = values ^ (values >> np.uint64(shift))
        if factor is not None:
            values = values * np.uint64(factor)
    return values


def _set(bits: NDArray[np.uint8], rows: NDArray[np.int64], value: bool) -> None:
    for row in rows.tolist():
        bit = np.uint8(1 << (row & 7))
        bits[row >> 3] = bits[row >> 3] | bit if value else bits[row >> 3] & ~bit
