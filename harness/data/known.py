"""What is learned of examples whose contents are not read again."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.data.index import ExampleIndex
from harness.data.order import canonical_position, sorted_row
from harness.data.packed import LABELS
from harness.data.packed_entries import EntryRows
from harness.data.packed_examples import PackedExamples
from harness.data.packed_targets import TargetRows
from harness.data.records import Names, RecordIndex
from harness.data.rows import labels_of, ranked
from harness.data.selection import Selection

Numbers = NDArray[np.int64]


class Learned(NamedTuple):
    """What is known of some examples: vectors of n.

    Attributes:
        position: in the source of which the split is a part, see :class:`Known`.
        row: in the sorted names of the whole set.
        label: as a chunk has it, see :mod:`harness.data.rows`.
        weight: in the loss; None where only the records tell.
        usable: whether anything is known of what is to be learned.
    """

    position: Numbers
    row: Numbers
    label: NDArray[np.int32] | NDArray[np.float32]
    weight: NDArray[np.float32] | None
    usable: NDArray[np.bool_]


class Known(Protocol):
    """Looks up examples of one split.

    A *source* is what features are computed of and numbered in: the split, or several splits of
    one set together.
    """

    positions: int
    """Of the source: more than its examples where it is a part of a packed set."""

    def numbers(self, ranks: Numbers) -> Numbers:
        """What :meth:`at` calls examples by, from their ranks in the split's canonical order."""

    def at(self, numbers: Numbers) -> Learned:
        """What is known of examples, in any order and with repeats."""

    def first_from(self, position: int) -> int:
        """Rank of the split's first example that stands at ``position`` of the source or behind."""

    def name(self, row: int) -> str:
        """Its name; "" where only the records tell."""


class KnownNames:
    """The :class:`Known` of an index in memory; examples are called by their rows in it.

    Args:
        source: holds all examples of ``index``; None is that itself.
    """

    def __init__(self, index: ExampleIndex, source: ExampleIndex | None = None) -> None:
        self._index = index
        source = source or index
        self.positions = len(source)
        self._rows = rows = _rows(index)
        self._ranked = ranked(index, rows)
        self._positions = np.searchsorted(np.sort(_canonical(source)), _canonical(index))
        self._labels = labels_of(index)
        weights = index.weights or np.ones(len(index))
        self._weights = np.asarray(weights, np.float32)

    def numbers(self, ranks: Numbers) -> Numbers:
        """See the protocol."""
        return self._ranked[ranks]

    def at(self, numbers: Numbers) -> Learned:
        """See the protocol."""
        return Learned(
            self._positions[numbers],
            self._rows[numbers],
            self._labels[numbers],
            self._weights[numbers],
            np.ones(len(numbers), bool),
        )

    def first_from(self, position: int) -> int:
        """See the protocol."""
        return int(np.searchsorted(self._positions, position, sorter=self._ranked))

    def name(self, row: int) -> str:
        """See the protocol."""
        at = int(np.searchsorted(self._rows, row))
        return str(self._index.names[at])


class KnownPacked:
    """The :class:`Known` of a packed set; examples are called by their ranks.

    Labels are looked up in the set's own files.  Nothing grows with the number of examples, and so
    the positions are those of the whole set.
    """

    def __init__(self, examples: PackedExamples) -> None:
        self._examples, packed = examples, examples.packed
        self.positions = len(packed)
        targets = examples.targets
        self._targets = TargetRows(packed, targets) if targets is not None else None
        self._label_of = np.array(examples.label_of, np.int32)
        self._labels = EntryRows(packed, LABELS) if targets is None else None

    def numbers(self, ranks: Numbers) -> Numbers:
        """See the protocol."""
        return ranks

    def at(self, numbers: Numbers) -> Learned:
        """See the protocol.

        Raises:
            DataError: files of the set are not whole.
        """
        position = self._examples.selection.positions(numbers)
        row = sorted_row(position, self.positions)
        if self._targets is not None:
            label, usable = self._targets.at(position)
            return Learned(position, row, label, None, usable)
        assert self._labels is not None, "there are labels or targets"
        label = self._label_of[self._labels.at(position)]
        return Learned(position, row, label, None, np.ones(len(row), bool))

    def first_from(self, position: int) -> int:
        """See the protocol."""
        selection = self._examples.selection
        low, high = 0, len(selection)
        while low < high:
            middle = (low + high) // 2
            if int(selection.positions(np.array([middle]))[0]) < position:
                low = middle + 1
            else:
                high = middle
        return low

    def name(self, row: int) -> str:
        """See the protocol."""
        return ""


def known_of(index: ExampleIndex | PackedExamples, source: ExampleIndex | PackedExamples) -> Known:
    """What looks up the examples of a split, by their positions in a source."""
    if isinstance(index, PackedExamples):
        return KnownPacked(index)
    assert isinstance(source, ExampleIndex), "parts of one set are of one kind"
    return KnownNames(index, source)


def united(
    first: ExampleIndex | PackedExamples, second: ExampleIndex | PackedExamples
) -> ExampleIndex | PackedExamples | None:
    """Two parts of one set together, without what is learned of them; None where they are not."""
    if isinstance(first, PackedExamples) or isinstance(second, PackedExamples):
        if not (isinstance(first, PackedExamples) and isinstance(second, PackedExamples)):
            return None
        if first.packed is not second.packed or len(first) + len(second) != len(first.packed):
            return None
        return replace(first, selection=Selection(len(first.packed)))
    if not first.whole or (first.root, first.whole) != (second.root, second.whole):
        return None
    rows = np.concatenate([_rows(first), _rows(second)])
    order = np.argsort(rows)
    if np.any(np.diff(rows[order]) == 0):
        return None

    def both(name: str) -> Any:
        whole = [*getattr(first, name), *getattr(second, name)]
        return [whole[at] for at in order.tolist()] if whole else ()

    held = array("q", rows[order].tolist())
    names = Names(first.table, held) if isinstance(first, RecordIndex) else both("names")
    one = {name: both(name) for name in ("sizes", "mtimes", "texts")}
    nothing: dict[str, Any] = dict.fromkeys(("weights", "groups", "targets", "states"), ())
    labels = array("l", bytes(len(held) * array("l").itemsize))
    digest = "\0".join(sorted((first.digest, second.digest)))
    return replace(
        first,
        names=names,
        labels=labels,
        rows=held,
        digest=digest,
        values=None,
        **one,
        **nothing,
    )


def _rows(index: ExampleIndex) -> Numbers:
    """Of an index in the whole set, ascending."""
    return np.asarray(index.rows, np.int64) if index.whole else np.arange(len(index))


def _canonical(index: ExampleIndex) -> Numbers:
    return canonical_position(_rows(index), index.whole or len(index))
