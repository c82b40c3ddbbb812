"""A CSV or TSV file that names examples, as an index.  Free of TensorFlow.

The file is read once, row by row; what is kept of a row are its path or text and a few numbers.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.index import ExampleIndex, manifest_digest
from harness.data.manifest_columns import (
    SPLITS,
    ManifestOptions,
    group_notes,
    no_column,
    places,
    refuse_other_targets,
)
from harness.data.manifest_files import Facts, Root, facts_of_files, facts_of_texts, what_exists
from harness.data.manifest_labels import Labelling, class_codes
from harness.data.manifest_notes import manifest_notes
from harness.data.manifest_rows import Complaints, rows
from harness.data.manifest_table import Table
from harness.data.regression import Values
from harness.data.weights import typical
from harness.errors import DataError


@dataclass(frozen=True)
class ManifestSets:
    """What one manifest holds.

    Attributes:
        sets: by ``train``, ``validation`` and ``test``, those that were wanted and have rows.
        unused: rows of the other splits.
        fill: the weight that stands for a missing one; None without weights, or where a missing
            one is not imputed.
    """

    sets: dict[str, ExampleIndex]
    unused: dict[str, int]
    fill: float | None


def manifest_index(
    path: str | Path,
    options: ManifestOptions | None = None,
    classes: Sequence[str] | None = None,
    *,
    own: str = "train",
    fill: float | None = None,
) -> ExampleIndex:
    """The examples of a manifest for one purpose; see :func:`manifest_sets`."""
    options = options or ManifestOptions()
    return manifest_sets(path, options, classes, own=own, wanted=(own,), fill=fill).sets[own]


def manifest_sets(
    path: str | Path,
    options: ManifestOptions,
    classes: Sequence[str] | None = None,
    *,
    own: str = "train",
    wanted: Sequence[str] = SPLITS,
    fill: float | None = None,
) -> ManifestSets:
    """Indexes the examples of a manifest and looks at their files, which it does not read.

    Args:
        classes: label names, of the training data; None takes those of the training rows.
        own: what the manifest was named for.  Without a column of splits all rows are that, and
            only a manifest of training examples must have the one that the options name.
        wanted: the splits to index, ``own`` among them.
        fill: for another ``own`` than ``train``: what stands for a missing weight.

    Raises:
        DataError: the manifest is not usable; names lines and what is wrong, of many the first.
    """
    file = Path(path)
    complaints = Complaints(file)
    root = Root(Path(options.root) if options.root is not None else file.parent)
    stream = rows(file, complaints)
    line, header = next(stream, (0, []))
    complaints.refuse()  # of a header that cannot be read nothing more can be said
    if not header:
        raise DataError(f"{file} is empty", allowed="a header, and a row for each example")
    where = places(file, line, header, options)
    if options.split is not None and where.split is None and own == "train":
        raise DataError(no_column(file, line, header, options, "split"))
    table = Table(options, where, root, own, wanted, complaints)
    for line, row in stream:
        table.take(line, row)
    maker = _Maker(file, root, options, table, complaints)
    sets, fill = maker.sets(own, wanted, classes, fill)
    notes = tuple(group_notes(file, header, options))
    sets[own] = replace(sets[own], notes=(*notes, *sets[own].notes))
    return ManifestSets(sets, dict(table.unused), fill)


class _Maker:
    """Makes indexes of the rows that were read."""

    def __init__(
        self,
        file: Path,
        root: Root,
        options: ManifestOptions,
        table: Table,
        complaints: Complaints,
    ) -> None:
        self._file, self._root, self._options = file, root, options
        self._table, self._complaints = table, complaints
        # Sorting keeps the order of equal names, so of two rows the later one is complained of.
        self._order = array("q", sorted(range(len(table)), key=table.names.__getitem__))
        self._facts = Facts(array("q"), array("q"), {})
        self._labelling = Labelling(file, options, table, self._order, complaints)

    def sets(
        self, own: str, wanted: Sequence[str], classes: Sequence[str] | None, fill: float | None
    ) -> tuple[dict[str, ExampleIndex], float | None]:
        table, imputed = self._table, self._options.missing_field.startswith("impute")
        table.same_names(self._order)
        if self._options.text is None:
            self._facts = facts_of_files(self._root.folder, table.names, self._order)
        else:
            self._facts = facts_of_texts(table.texts, self._order)
        kept = self._there()
        given = self._options.targets or classes
        refuse_other_targets(self._file, self._options, classes)
        known = tuple(given) if given else self._labelling.classes(kept["train"])
        for split in wanted:
            self._labelling.unknown(kept[split], known)
        self._complaints.refuse()
        for split in wanted:
            if not kept[split] and (split == own or table.missing[split]):
                raise self._no_examples(split)
        if not given:
            self._labelling.refuse_one_class(known)
        if own == "train" and self._options.weight is not None:
            fill = self._typical(kept["train"]) if imputed else None
        made = {
            split: self._index(split, kept[split], known, fill, named=classes is not None)
            for split in wanted
            if kept[split]
        }
        return made, fill

    def _there(self) -> dict[str, array[int]]:
        """By split the places, among the sorted rows, of those whose file is there."""
        table, facts, options = self._table, self._facts, self._options
        kept = {split: array("q") for split in SPLITS}
        for at, row in enumerate(self._order):
            line, split = table.lines[row], SPLITS[table.splits[row]]
            if at in facts.odd:
                name = options.show(table.names[row])
                what, action = "the file cannot be used", "correct the path, or the file's rights"
                self._complaints.add(line, f"{what}: {facts.odd[at]}", name, "a file", action)
            elif facts.sizes[at] >= 0:
                kept[split].append(at)
            elif options.missing_file == "drop":
                table.missing[split]["file_dropped"] += 1
            else:
                self._no_file(line, table.names[row])
        return kept

    def _no_file(self, line: int, name: str) -> None:
        root = self._root.folder
        there = what_exists((root / name).parent)
        known = "" if self._options.sensitive else f", of which {there} is there"
        self._complaints.add(
            line,
            "the file does not exist",
            self._options.show(name),
            f"a path below {root}{known}",
            "correct it, set data.root to what the paths start from, or data.missing.file to drop",
        )

    def _no_examples(self, split: str) -> DataError:
        of = f" for {split}" if self._options.split is not None else ""
        left = ", ".join(f"{n} {kind}" for kind, n in sorted(self._table.missing[split].items()))
        unused = ", ".join(f"{n} for {name}" for name, n in sorted(self._table.unused.items()))
        return DataError(
            f"{self._file} holds no examples{of}",
            got=", ".join(filter(None, (left, unused))) or "no rows after the header",
            allowed="a row with label and file for each example",
            action="add rows, or correct what is missing in them",
        )

    def _typical(self, places: Sequence[int]) -> float:
        """Mean or median of the weights that are there."""
        weights = (self._table.weights[self._order[at]] for at in places)
        found = typical(weights, self._options.missing_field)
        if found is None:
            raise DataError(
                f"{self._file} has no weight in any row",
                got=f"missing values in the column {self._options.weight!r}",
                allowed="weights, of which some may be missing",
                action="check data.columns.weight and data.na_values",
            )
        return found

    def _index(
        self,
        split: str,
        places: Sequence[int],
        classes: tuple[str, ...],
        fill: float | None,
        named: bool,
    ) -> ExampleIndex:
        table, facts, options = self._table, self._facts, self._options
        chosen = array("q", (self._order[at] for at in places))
        signs, states = self._labelling.signs(classes)
        values = Values(table.values, len(classes)).subset(chosen) if options.numeric else None
        weights = array("d", (table.weights[row] for row in chosen) if table.weights else ())
        imputed = self._impute(split, weights, fill)
        # Of several labels or numbers none is the class: 0 for all.
        code_of = class_codes(table.label_names, () if signs or values else classes)
        index = ExampleIndex(
            root=self._root.folder,
            names=[table.names[row] for row in chosen],
            labels=array("l", (max(0, code_of[table.labels[row]]) for row in chosen)),
            targets=[signs[table.labels[row]] for row in chosen] if signs else (),
            states=[states[table.labels[row]] for row in chosen] if states else (),
            uncertain=options.uncertain,
            values=values,
            classes=classes,
            sizes=array("q", (facts.sizes[at] for at in places)),
            digest="",
            mtimes=array("q", (facts.mtimes[at] for at in places)),
            weights=weights,
            groups=[table.groups[row] for row in chosen] if table.groups else (),
            texts=[table.texts[row] for row in chosen] if table.texts else (),
            missing={**table.missing[split], **({"weight_imputed": imputed} if imputed else {})},
        )
        of = f"{self._file} ({split})" if self._options.split is not None else str(self._file)
        given, again = named or split != "train", table.repeated[split]
        notes = tuple(manifest_notes(of, index, options, fill, again, given=given))
        if not given:
            notes += tuple(self._labelling.notes(of, places, index.counts()))
        return replace(index, digest=manifest_digest(index), notes=notes)

    def _impute(self, split: str, weights: array[float], fill: float | None) -> int:
        lacking = [at for at, weight in enumerate(weights) if math.isnan(weight)]
        if lacking and fill is None:
            raise DataError(
                f"{self._file} has {len(lacking)} rows without weight, and the training data has "
                "none to take for them",
                allowed="a weight in each row",
                action="write them, or set data.missing.field to drop",
            )
        for at in lacking:
            assert fill is not None, "held above"
            weights[at] = fill
        return len(lacking)
