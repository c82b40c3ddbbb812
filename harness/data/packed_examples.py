"""The examples of a packed set, or of a part of it, and how they are read.  Free of TensorFlow.

Examples are numbered in canonical order; a part keeps the order of the whole.  Nothing here grows
with their number but one bit for each where the set was split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.manifest_columns import ManifestOptions
from harness.data.packed import GROUPS, KEYS, LABELS, PackedIndex, open_packed
from harness.data.packed_targets import Targets, chunks, open_targets, refuse_other, spread
from harness.data.regression import Numbers
from harness.data.scan import listed, refuse
from harness.data.selection import Positions, Selection
from harness.data.split import held_back, held_back_groups, lacking_groups
from harness.errors import Problem

_CHUNK = 1 << 18


@dataclass(frozen=True)
class PackedExamples:
    """The examples of one split.

    Attributes:
        packed: the set.
        selection: which of it; their canonical positions.
        classes: those of the training data.
        label_of: for each class of the set its row in ``classes``; 0 where there are no classes.
        by_class: examples of each of ``classes``.
        notes: sentences for the user.
        missing: what the data that were packed lacked, by kind.
        targets: how several labels or numbers are taken; None where each example has a class.
    """

    packed: PackedIndex
    selection: Selection
    classes: tuple[str, ...]
    label_of: tuple[int, ...]
    by_class: tuple[int, ...]
    notes: tuple[str, ...] = ()
    missing: dict[str, int] = field(default_factory=dict)
    targets: Targets | None = None

    def __len__(self) -> int:
        return len(self.selection)

    @property
    def root(self) -> Path:
        """The folder of the set."""
        return self.packed.root

    @property
    def digest(self) -> str:
        """That of the set; of a part also of which it is."""
        if self.selection.is_all:
            return self.packed.digest
        held = f"{self.packed.digest}\0{self.selection.digest()}".encode()
        return f"packed-part:{hashlib.sha256(held).hexdigest()}"

    @property
    def example_bytes(self) -> float:
        """Mean size of an example."""
        return self.packed.content_bytes / max(1, len(self.packed))

    def counts(self) -> dict[str, int]:
        """Examples of every class; of several labels or numbers those that surely have it."""
        return dict(zip(self.classes, self.by_class, strict=True))

    def each(self) -> list[Numbers]:
        """What is known of each target, of a set of numbers.

        Raises:
            DataError: files of the set are not whole.
        """
        assert self.targets is not None, "asked of numbers"
        return spread(self.packed, self.selection, self.targets.columns)

    def records(self, ranks: Positions) -> tuple[NDArray[Any], Positions]:
        """The records of examples and their canonical positions, as many as ``ranks``.

        Args:
            ranks: numbers of examples, in any order, with repeats; one or more.

        Returns:
            Bytes, an object array; empty where a record is damaged.

        Raises:
            DataError: files of the set are not whole.
        """
        from harness.data.packed_read import read_records  # which a plan need not be able to do

        unique, inverse = np.unique(ranks, return_inverse=True)
        positions = self.selection.positions(unique)
        found = np.empty(len(positions), object)
        found[:] = list(map(bytes, read_records(self.packed, positions)))
        return found[inverse], positions[inverse]

    def split(self, fraction: float, seed: int) -> tuple[PackedExamples, PackedExamples]:
        """(train, validation) as :func:`harness.data.split.held_back` has it.

        Raises:
            DataError: it cannot be split, or files of the set are not whole.
        """
        whole = len(self.packed)
        if GROUPS in self.packed.kinds:
            bits, notes = self._groups_held_back(fraction, seed)
        else:
            bits = held_back(self._keys_and_labels(), len(self.classes), fraction, seed)
            notes = [
                f"class {name!r} has one example: it stays in training, not in validation"
                for name, count in self.counts().items()
                if count == 1 and self.targets is None
            ]
        held = Selection(whole, bits)
        counts = self._counts(held)
        rest = np.array(self.by_class) - counts
        train = Selection(whole, bits, others=True)
        return (
            replace(self, selection=train, by_class=tuple(rest.tolist())),
            replace(self, selection=held, by_class=tuple(counts.tolist()), notes=tuple(notes)),
        )

    def _counts(self, some: Selection) -> NDArray[np.int64]:
        """Examples of each class in a part."""
        counts = np.zeros(len(self.classes), np.int64)
        if self.targets is not None:
            for entries in chunks(self.packed, some):
                counts += self.targets.known(entries)
            return counts
        starts = range(0, len(self.packed), _CHUNK)
        for start, (_, labels) in zip(starts, self._keys_and_labels(), strict=True):
            chosen = labels[some.holds(start, len(labels))]
            counts += np.bincount(chosen, minlength=len(self.classes))
        return counts

    def _groups_held_back(self, fraction: float, seed: int) -> tuple[NDArray[np.uint8], list[str]]:
        """As :func:`harness.data.split.split_validation` has it, and which classes it lacks.

        While it draws it holds about 80 bytes of each example: a group may have them anywhere.
        """
        keys = np.empty(len(self.packed), np.uint64)
        labels = np.empty(len(self.packed), np.int64)
        start = 0
        for some, its in self._keys_and_labels(GROUPS):
            keys[start : start + len(some)], labels[start : start + len(some)] = some, its
            start += len(some)
        held = held_back_groups(keys, labels, len(self.classes), fraction, seed)
        notes = [] if self.targets else list(lacking_groups(self.classes, labels, held))
        return np.packbits(held, bitorder="little"), notes

    def group_keys(self) -> NDArray[Any]:
        """Hashes of the groups of these examples, each once, ascending; none where none are known.

        Raises:
            DataError: files of the set are not whole.
        """
        found = np.empty(0, np.uint64)
        for start in range(0, len(self.packed) if GROUPS in self.packed.kinds else 0, _CHUNK):
            count = min(_CHUNK, len(self.packed) - start)
            keys = self.packed.entries(GROUPS, start, count)
            found = np.union1d(found, keys[self.selection.holds(start, count)])
        return found

    def _keys_and_labels(self, name: str = KEYS) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        rows = np.array(self.label_of, np.int64)
        for start in range(0, len(self.packed), _CHUNK):
            count = min(_CHUNK, len(self.packed) - start)
            # Where there are no classes all examples are drawn alike.
            none = np.zeros(count, np.int64)
            labels = none if self.targets else rows[self.packed.entries(LABELS, start, count)]
            yield self.packed.entries(name, start, count), labels


def packed_examples(
    path: str | Path,
    classes: Sequence[str] | None = None,
    options: ManifestOptions | None = None,
) -> PackedExamples:
    """Opens a packed set.

    Args:
        classes: for validation and test data: the classes of the training data.  Then a class
            may be missing here (said in ``notes``), but no other may have examples.
        options: what a spec learns of them; None takes what the set holds.

    Raises:
        DataError: see :func:`harness.data.packed.open_packed`; or it has a class that the
            training data lack, or not what ``options`` ask for.
    """
    packed = open_packed(path)
    if options is not None:
        refuse_other(packed, options.learned)
    if packed.learned == "class":
        return _of_classes(packed, path, classes)
    found = open_targets(packed, classes, options)
    return PackedExamples(
        packed,
        Selection(len(packed)),
        found.classes,
        (0,),
        found.by_class,
        found.notes,
        packed.missing,
        found.targets,
    )


def _of_classes(
    packed: PackedIndex, path: str | Path, classes: Sequence[str] | None
) -> PackedExamples:
    """The examples of a set where each has one class."""
    known = packed.classes if classes is None else tuple(classes)
    row_of = {name: row for row, name in enumerate(known)}
    refuse(
        Problem(
            f"{path} has a class that the training data does not have",
            got=repr(name),
            allowed=listed(list(known)),
            action="pack it again without that class, or add the class to the training data",
        )
        for name, count in zip(packed.classes, packed.counts, strict=True)
        if count and name not in row_of
    )
    by_class = dict(zip(packed.classes, packed.counts, strict=True))
    missing = [name for name in known if not by_class.get(name)]
    notes = []
    if missing and classes is not None:
        some = f"{len(missing)} of {len(known)} classes"
        notes.append(f"{path} has no examples of {some}: {listed(missing)}")
    return PackedExamples(
        packed,
        Selection(len(packed)),
        known,
        tuple(row_of.get(name, 0) for name in packed.classes),
        tuple(by_class.get(name, 0) for name in known),
        tuple(notes),
        packed.missing,
    )
