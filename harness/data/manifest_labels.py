"""The classes of a manifest, from one column: a class for each row, or the list of its labels.

Where a cell lists labels, what is kept of it is a text with each of them once, in sorted order,
which is the same for all rows of equal labels.  Free of TensorFlow.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.data.manifest_columns import ManifestOptions
from harness.data.manifest_rows import Complaints
from harness.data.manifest_table import Table
from harness.data.multilabel import signs_of, taken
from harness.data.scan import listed
from harness.errors import DataError


class Labelling:
    """What the labels of the rows of a table mean.

    Args:
        order: sorts the rows; places are those in it.
        complaints: hear of labels that are not known.
    """

    def __init__(
        self,
        file: Path,
        options: ManifestOptions,
        table: Table,
        order: Sequence[int],
        complaints: Complaints,
    ) -> None:
        self._file, self._options, self._table = file, options, table
        self._order, self._complaints = order, complaints

    def classes(self, places: Sequence[int]) -> tuple[str, ...]:
        """The classes, or the labels, that some rows have, sorted by text."""
        names = self._table.label_names
        used = {self._table.labels[self._order[at]] for at in places}
        return tuple(sorted({one for code in used for one in self._listed(names[code])}))

    def unknown(self, places: Sequence[int], known: Sequence[str]) -> None:
        """Complains of rows with other labels than ``known``."""
        if not known or self._options.columns:
            return
        names, classes = self._table.label_names, set(known)
        strange = {
            code: odd
            for code, name in enumerate(names)
            if (odd := [one for one in self._listed(name) if one not in classes])
        }
        for at in places if strange else ():
            row = self._order[at]
            for name in strange.get(self._table.labels[row], ()):
                self._complain(self._table.lines[row], name, known)

    def _complain(self, line: int, name: str, known: Sequence[str]) -> None:
        what, action = (
            "has a class that the training data does not have",
            "correct the label, remove the row, or add the class to the training data",
        )
        if self._options.separator is not None:
            what, action = (
                "has a label that is none of those that are learned",
                "correct the label, or name it in data.columns.labels",
            )
        self._complaints.add(line, what, repr(name), listed(list(known)), action)

    def refuse_one_class(self, known: Sequence[str]) -> None:
        """Holds that rows which say themselves what the classes are have enough of them.

        Raises:
            DataError: there is one only, or no label at all.
        """
        several = self._options.separator is not None
        if len(known) > 1 or not (known or several):
            return
        raise DataError(
            f"{self._file} has one {'label' if several else 'class'} only"
            if known
            else f"{self._file} has no label in any row",
            got=repr(known[0]) if known else "empty cells",
            allowed="two labels or more, or their names in data.columns.labels"
            if several
            else "two classes or more",
            action=f"check that data.columns.label ({self._options.label}) is the right column",
        )

    def signs(self, classes: Sequence[str]) -> tuple[list[str], list[str]]:
        """By the codes of the table's labels: the targets of several labels, and their states
        where these may differ.  Empty where examples have one class, or numbers."""
        held, uncertain = self._table.label_names, self._options.uncertain
        if self._options.separator is not None:
            return [signs_of(self._listed(name), classes) for name in held], []
        if self._options.learned != "labels" or not self._options.labels:
            return [], []
        if uncertain is None:
            return held, []
        return [taken(one, uncertain[1]) for one in held], held

    def notes(self, of: str, places: Sequence[int], counts: dict[str, int]) -> Iterator[str]:
        """What is worth knowing of training rows that list their labels.

        Args:
            of: how the examples are called.
            places: their places.
            counts: how many have each label.
        """
        separator = self._options.separator
        if separator is None:
            return
        names = self._table.label_names
        used = {self._table.labels[self._order[at]] for at in places}
        if all(len(self._listed(names[code])) < 2 for code in used):
            yield (
                f"warning: {of} has no example of two labels: is {separator!r} what stands between "
                "them (data.columns.label_separator)?"
            )
        absent = [name for name, count in counts.items() if not count]
        if absent:
            yield (
                f"{of} has no examples of {len(absent)} of {len(counts)} labels that "
                f"data.columns.labels names: {listed(absent)}"
            )

    def _listed(self, name: str) -> Sequence[str]:
        """The labels that the kept text of a cell names."""
        separator = self._options.separator
        if separator is None:
            return [name]
        return name.split(separator) if name else ()


def class_codes(label_names: Sequence[str], classes: Sequence[str]) -> array[int]:
    """The class of each code of a label; -1 where it is none."""
    row_of = {name: row for row, name in enumerate(classes)}
    return array("l", (row_of.get(name, -1) for name in label_names))
