"""Validation examples out of the training examples.  Free of TensorFlow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.data.index import ExampleIndex
from harness.data.scan import listed, refuse
from harness.errors import DataError, Problem, SpecError

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, None))
_ALL = (1 << 64) - 1


def split_validation(
    index: ExampleIndex, fraction: float, seed: int
) -> tuple[ExampleIndex, ExampleIndex]:
    """Splits into (train, validation): by groups if there are any, else example by example.

    See :func:`held_back_groups` and :func:`held_back`.  ``notes`` of the second says which
    classes it lacks.

    Raises:
        SpecError: ``fraction`` is not between 0 and 1.
        DataError: nothing can be held back without taking all of a class.
    """
    labels = np.asarray(index.labels, np.int64)
    if index.groups:
        groups, codes = _coded(index.groups)
        keys = np.fromiter(map(name_key, groups), np.uint64, len(groups))[codes]
        held = held_back_groups(keys, labels, len(index.classes), fraction, seed)
        return _parts(index, held, _lacking(index, labels, held))
    keys = np.fromiter(map(name_key, index.names), np.uint64, len(index))
    bits = held_back([(keys, labels)], len(index.classes), fraction, seed)
    held = np.unpackbits(bits, count=len(index), bitorder="little").astype(bool)
    notes = [
        f"class {name!r} has one example: it stays in training, not in validation"
        for name, count in index.counts().items()
        if count == 1 and not index.targets and index.values is None
    ]
    return _parts(index, held, notes)


def _parts(
    index: ExampleIndex, held: NDArray[np.bool_], notes: Iterable[str]
) -> tuple[ExampleIndex, ExampleIndex]:
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
    _check_fraction(fraction)
    count, below = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    least, most = np.full(classes, 2.0), np.full(classes, -1.0)
    least_at, most_at = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    bits = bytearray()
    start = 0
    for keys, labels in chunks:
        drawn = draws(keys, seed)
        held = drawn < fraction
        bits += np.packbits(held, bitorder="little").tobytes()
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
    packed = np.frombuffer(bits, np.uint8)  # which can be written, as a bytearray can
    _set(packed, least_at[(count > 1) & (below == 0)], True)
    _set(packed, most_at[(count > 0) & (below == count)], False)
    return packed


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise SpecError(
            "the validation fraction must lie between 0 and 1",
            got=str(fraction),
            path="data.validation.fraction",
        )


def held_back_groups(
    keys: NDArray[Any], labels: NDArray[np.int64], classes: int, fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Which examples are validation examples, so that no group is on both sides.

    A group is held back as a whole when its draw, a hash of (seed, group), is below ``fraction``.
    So adding or removing others never moves it, and the share of the groups is ``fraction`` on
    average; that of the examples is as uneven as the groups are.  Two exceptions keep the classes
    on both sides as far as groups allow it.  Where all groups of a class are held back, the one
    with the largest draw stays in training after all.  Then, for a class of which none is held
    back, the group with the smallest draw goes to validation, of those that leave each of their
    classes another group in training.

    Args:
        keys: of the group of each example, :func:`name_key`, uint64.
        labels: rows of the classes.
        classes: how many there are.

    Raises:
        SpecError: ``fraction`` is not between 0 and 1.
        DataError: no group can go without taking all of a class with it.
    """
    _check_fraction(fraction)
    known, codes = np.unique(keys, return_inverse=True)
    drawn = draws(known, seed)
    held = drawn < fraction
    classes_of, groups_of = _members(codes, labels, len(known), classes)
    for groups in groups_of:
        if groups and held[groups].all():
            held[max(groups, key=drawn.__getitem__)] = False
    left = [int((~held[groups]).sum()) for groups in groups_of]
    for groups in groups_of:
        if held[groups].any():
            continue
        for group in sorted(groups, key=drawn.__getitem__):
            if all(left[label] > 1 for label in classes_of[group]):
                held[group] = True
                for label in classes_of[group]:
                    left[label] -= 1
                break
    if not held.any():
        raise DataError(
            "no group can be held back without taking all of a class with it",
            got=f"{len(known)} groups of {classes} classes",
            allowed="a class with two groups or more",
            action="add groups, give data.validation a path of its own, or set it to null",
            path="data.validation",
        )
    return held[codes]


class Grouped(Protocol):
    """A packed set with groups."""

    def group_keys(self) -> NDArray[Any]:
        """:func:`name_key` of its groups."""


def refuse_shared_groups(sets: Mapping[str, ExampleIndex | Grouped], hide: bool = False) -> None:
    """Holds that no group has examples in two of these sets, by their names.

    A packed set knows its groups by their hashes: such as only it has are counted, not named.

    Args:
        hide: do not name the groups in the error (``data.sensitive``).

    Raises:
        DataError: some have; names them.
    """
    of_set: dict[str, dict[int, str]] = {}
    named: dict[int, str] = {}
    for name, index in sets.items():
        if isinstance(index, ExampleIndex):
            of_set[name] = {name_key(group): group for group in set(index.groups)}
            named |= of_set[name]
        else:
            of_set[name] = dict.fromkeys(index.group_keys().tolist(), "")
    refuse(
        Problem(
            f"{len(shared)} group{'' if len(shared) == 1 else 's'} both in {one} and in {other}",
            got=_names(shared, {} if hide else named),
            allowed="each group on one side, or the figures are too good",
            action="move all examples of a group to one side, or let harness split by group "
            "(data.validation: {fraction: 0.1})",
            path="data.columns.group",
        )
        for one, other in combinations(of_set, 2)
        if (shared := of_set[one].keys() & of_set[other].keys())
    )


def _names(shared: Iterable[int], named: Mapping[int, str]) -> str | None:
    return listed(sorted(named[key] for key in shared if key in named)) or None


def _coded(groups: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The groups, each once, and for each example the number of its own."""
    known: dict[str, int] = {}
    numbers = (known.setdefault(group, len(known)) for group in groups)
    codes = np.fromiter(numbers, np.int64, len(groups))
    return list(known), codes


def _members(
    codes: NDArray[np.int64], labels: NDArray[np.int64], groups: int, classes: int
) -> tuple[list[list[int]], list[list[int]]]:
    """For each group its classes, and for each class its groups."""
    classes_of: list[list[int]] = [[] for _ in range(groups)]
    groups_of: list[list[int]] = [[] for _ in range(classes)]
    for pair in np.unique(codes * classes + labels).tolist():
        group, label = divmod(pair, classes)
        classes_of[group].append(label)
        groups_of[label].append(group)
    return classes_of, groups_of


def _lacking(
    index: ExampleIndex, labels: NDArray[np.int64], held: NDArray[np.bool_]
) -> Iterator[str]:
    if not index.targets and index.values is None:
        yield from lacking_groups(index.classes, labels, held)


def lacking_groups(
    classes: Sequence[str], labels: NDArray[np.int64], held: NDArray[np.bool_]
) -> Iterator[str]:
    """Sentences that say which classes have no validation examples."""
    there = np.bincount(labels, minlength=len(classes))
    chosen = np.bincount(labels[held], minlength=len(classes))
    for name, count, some in zip(classes, there.tolist(), chosen.tolist(), strict=True):
        if count and not some:
            yield f"class {name!r} has no group to spare: it stays in training, not in validation"


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
