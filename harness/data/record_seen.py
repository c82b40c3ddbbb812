"""What was seen of one TFRecord file.  Free of TensorFlow."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator

from harness.errors import Problem

RECORDS = "records"
"""Folder of the cache with what was seen of such files."""
LOST = -1
"""Code of the label of a record that cannot be read."""
BETWEEN = "\0"
"""Stands between the labels of a list where they are kept as one text; no label holds it."""


class Scanned:
    """What one file holds.

    Attributes:
        starts, sizes, numbers, labels, weights, groups: of its examples, see
            :class:`harness.data.records.Table`; labels are codes, :data:`LOST` where none is known.
            Where examples have no class, a code is of all that is known of one, and ``values`` are
            the numbers of a regression, all of an example one after the other.
        labels_there: the labels by code, as they stand in the records; lists of them of a list.
        label_names: their names by code; of several labels see
            :mod:`harness.data.record_targets`.
        faults: why a record cannot be read, by example, where that was seen.
        broken: why the file cannot be read to its end; empty where it can.
        lost: how many examples that has cost, about; 0 where it can.
        there: the features of its first record, for messages.
        records: that were walked through.
    """

    def __init__(self, file: str, size: int, mtime_ns: int) -> None:
        self.file, self.bytes, self.mtime_ns = file, size, mtime_ns
        self.starts, self.sizes, self.numbers = array("q"), array("q"), array("q")
        self.labels, self.weights, self.values = array("l"), array("d"), array("d")
        self.groups: list[str] = []
        self.labels_there: list[int | str | list[int | str]] = []
        self.label_names: list[str] = []
        self.faults: dict[int, str] = {}
        self.missing: Counter[str] = Counter()
        self.problems: list[Problem] = []
        self.broken, self.lost, self.there = "", 0, ""
        self.records = 0

    def __len__(self) -> int:
        return len(self.starts)

    def hold_to(self, records: int) -> None:
        """Takes what lacks of so many records as lost; more of them are none of this file's."""
        if self.records < records:
            self.lost = max(self.lost, records - self.records)
            self.broken = self.broken or f"it holds {self.records} of {records} records"

    def labels_used(self) -> Iterator[int | str]:
        """The labels of its examples, as they stand in the records; some more than once."""
        for code in self.used():
            label = self.labels_there[code]
            yield from label if isinstance(label, list) else [label]

    def names_used(self, of_lists: bool) -> Iterator[str]:
        """The names of these labels.

        Args:
            of_lists: whether an example may have several.
        """
        for code in self.used():
            name = self.label_names[code]
            yield from filter(None, name.split(BETWEEN)) if of_lists else [name]

    def used(self) -> set[int]:
        """Codes of the labels of its examples."""
        return set(self.labels) - {LOST}
