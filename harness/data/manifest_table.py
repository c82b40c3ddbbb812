"""The rows of a manifest as they are read: checked, and kept in a few bytes each."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from harness.data.manifest_columns import SPLIT_WORDS, SPLITS, ManifestOptions, Places
from harness.data.manifest_files import Root
from harness.data.manifest_rows import Complaints
from harness.data.multilabel import UNKNOWN, listed_labels, state_of, taken
from harness.data.regression import number_of


class Table:
    """Grows row by row; what is wrong with a row goes to the complaints and the row is left out.

    ``names`` (relative to the root; of texts, what :meth:`_text_name` makes), ``lines``,
    ``labels`` (numbers of ``label_names``, of several labels those of their states or of the list
    of them), ``weights`` (nan where missing), ``groups``, ``splits`` (rows of ``SPLITS``) and
    ``texts`` stand side by side, in the order of the file,
    and so do ``values``, the numbers that a regression learns, all of a row one after the other;
    ``repeated`` counts by split the texts that had come before.  ``missing`` counts by split and
    kind what was left out,
    ``unused`` the rows of splits that are not wanted.
    """

    def __init__(
        self,
        options: ManifestOptions,
        places: Places,
        root: Root,
        own: str,
        wanted: Sequence[str],
        complaints: Complaints,
    ) -> None:
        self._options, self._places, self._root = options, places, root
        self._own, self._wanted = own, frozenset(wanted)
        self._complaints = complaints
        self._absent = frozenset(options.na_values)
        self.names: list[str] = []
        self.lines = array("q")
        self.labels = array("l")
        self.weights = array("d")
        self.values = array("d")
        self.groups: list[str] = []
        self.splits = array("b")
        self.texts: list[bytes] = []
        self._known_texts: Counter[str] = Counter()
        self.repeated: Counter[str] = Counter()
        self._label_codes: dict[str, int] = {}
        # One object for each group and not for each row.
        self._known_groups: dict[str, str] = {}
        self.missing: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self.unused: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def label_names(self) -> list[str]:
        """The labels by their numbers, in the order in which they were met."""
        return list(self._label_codes)

    def take(self, line: int, row: Sequence[str]) -> None:
        """One row of the file, as its cells."""
        if len(row) != self._places.width:
            self._complaints.add(
                line,
                "the row has another number of cells than the header",
                str(len(row)),
                str(self._places.width),
                "add or remove cells, or put one that holds the delimiter into quotes",
            )
            return
        split = self._split(line, row)
        if split is None:
            return
        if split not in self._wanted:
            self.unused[split] += 1
            return
        label = self._label(line, row, split)
        name = self._name(line, row, split) if label is not None else None
        group = self._group(line, row, split) if name is not None else None
        weight = self._weight(line, row, split) if group is not None else None
        if label is None or name is None or group is None or weight is None:
            return
        if self._options.text is not None:
            self.texts.append(name.encode())
            name = self._text_name(name, split)
        self.names.append(name)
        self.lines.append(line)
        if isinstance(label, tuple):
            self.values.extend(label)
            label = ""
        self.labels.append(self._label_codes.setdefault(label, len(self._label_codes)))
        self.splits.append(SPLITS.index(split))
        if self._options.group is not None:
            self.groups.append(self._known_groups.setdefault(group, group))
        if self._options.weight is not None:
            self.weights.append(weight)

    def leave_out(self, line: int, kind: str, policy: str, split: str, what: str, got: str) -> None:
        """A row that lacks something: counted where the policy is ``drop``, else a complaint."""
        if policy == "drop":
            self.missing[split][f"{kind}_dropped"] += 1
            return
        field = {"label": "label", "file": "file", "text": "file"}.get(kind, "field")
        self._complaints.add(
            line, what, got, "a value", f"write it, or set data.missing.{field} to drop"
        )

    def same_names(self, order: Sequence[int]) -> None:
        """Complains of names that come twice; ``order`` sorts the names and keeps equal rows."""
        for before, row in pairwise(order):
            if self.names[before] == self.names[row]:
                self._complaints.add(
                    self.lines[row],
                    f"names the same file as line {self.lines[before]}",
                    self._options.show(self.names[row]),
                    "each file once",
                    "remove one of the rows",
                )

    def _split(self, line: int, row: Sequence[str]) -> str | None:
        place = self._places.split
        if place is None:
            return self._own
        cell = row[place]
        if cell in self._absent:
            policy, what = self._options.missing_field, "the row says no split"
            self.leave_out(line, "split", policy, self._own, what, repr(cell))
            return None
        split = SPLIT_WORDS.get(cell.lower())
        if split is None:
            allowed = ", ".join(SPLIT_WORDS) + ", in any case"
            self._complaints.add(line, "is no split", repr(cell), allowed, "correct the value")
        return split

    def _label(self, line: int, row: Sequence[str], split: str) -> str | tuple[float, ...] | None:
        if self._options.numeric:
            return self._numbers(line, row, split)
        if self._places.labels:
            return self._states(line, row, split)
        label, separator = row[self._places.label], self._options.separator
        # An empty list is one too: an example without any label.
        if label in self._absent and (separator is None or label):
            policy = self._options.missing_label
            self.leave_out(line, "label", policy, split, "the row has no label", repr(label))
            return None
        return label if separator is None else self._several(line, label, separator)

    def _several(self, line: int, cell: str, separator: str) -> str | None:
        """What is kept of a cell that lists labels, see :mod:`harness.data.manifest_labels`."""
        names = listed_labels(cell, separator)
        if names is None:
            allowed = f"labels with {separator!r} between them, or an empty cell for none"
            what, action = "names an empty label", "remove the separator that is too many"
            self._complaints.add(line, what, repr(cell), allowed, action)
            return None
        return separator.join(names)

    def _states(self, line: int, row: Sequence[str], split: str) -> str | None:
        """The states of several labels, see :mod:`harness.data.multilabel`."""
        options, signs = self._options, []
        value, as_ = options.uncertain or (None, "ignore")
        for name, place in zip(options.labels, self._places.labels, strict=True):
            cell = row[place]
            if cell not in self._absent:
                sign = state_of(cell, value)
            elif options.missing_label == "drop":
                sign = UNKNOWN
            else:
                what = f"the row has no label {name!r}"
                self.leave_out(line, "label", "error", split, what, repr(cell))
                return None
            if sign is None:
                known, action = "0 or 1", "correct it, or say with data.uncertain what it means"
                if value is not None:
                    known, action = f"0, 1 or {value}", "correct the value"
                what = f"the label {name!r} is neither present nor absent"
                self._complaints.add(line, what, repr(cell), known, action)
                return None
            signs.append(sign)
        states = "".join(signs)
        if set(taken(states, as_)) == {UNKNOWN}:
            # Nothing can be learned from it, whatever the policy says of a single cell.
            self.missing[split]["label_dropped"] += 1
            return None
        return states

    def _numbers(self, line: int, row: Sequence[str], split: str) -> tuple[float, ...] | None:
        """The targets of a regression, nan where not known."""
        options, numbers = self._options, []
        for name, place in zip(options.targets, self._places.labels, strict=True):
            cell = row[place]
            if cell not in self._absent:
                number = number_of(cell)
            elif options.missing_label == "drop":
                number = math.nan
            else:
                what = f"the row has no value of {name!r}"
                self.leave_out(line, "label", "error", split, what, repr(cell))
                return None
            if number is None:
                what, allowed = f"the target {name!r} is no number", "one as 12.5, -3 or 1e-3"
                action = "correct it, or add it to data.na_values if it stands for a missing one"
                self._complaints.add(line, what, repr(cell), allowed, action)
                return None
            numbers.append(number)
        if all(map(math.isnan, numbers)):
            # Nothing can be learned from it, whatever the policy says of a single cell.
            self.missing[split]["label_dropped"] += 1
            return None
        return tuple(numbers)

    def _name(self, line: int, row: Sequence[str], split: str) -> str | None:
        """The path of the example, or, where texts stand in the manifest, the text itself."""
        cell, of_texts = row[self._places.example], self._options.text is not None
        if cell in self._absent:
            policy = self._options.missing_file
            kind, what = ("text", "has no text") if of_texts else ("file", "names no file")
            self.leave_out(line, kind, policy, split, f"the row {what}", repr(cell))
            return None
        if of_texts:
            return cell
        name, medium = self._root.name(cell), self._options.medium
        if name.rpartition(".")[2].lower() not in medium.extensions:
            action = f"remove the row, or name a {medium.one}"
            shown, allowed = self._options.show(cell), f"files ending in {medium.kinds}"
            self._complaints.add(line, f"the file is no {medium.one}", shown, allowed, action)
            return None
        return name

    def _text_name(self, text: str, split: str) -> str:
        """What stands for a text where examples go by their names: a hash of it.

        So rows may be added or sorted otherwise and each text keeps its draws.  One that comes
        again gets a number.
        """
        name = hashlib.blake2b(text.encode(), digest_size=8, person=b"harness.text").hexdigest()
        self._known_texts[name] += 1
        number = self._known_texts[name]
        if number == 1:
            return name
        self.repeated[split] += 1
        return f"{name}-{number}"

    def _group(self, line: int, row: Sequence[str], split: str) -> str | None:
        place = self._places.group
        if place is None:
            return ""
        if row[place] in self._absent:
            policy = self._options.missing_field
            self.leave_out(line, "group", policy, split, "the row has no group", repr(row[place]))
            return None
        return row[place]

    def _weight(self, line: int, row: Sequence[str], split: str) -> float | None:
        place = self._places.weight
        if place is None:
            return 1.0
        cell = row[place]
        if cell in self._absent:
            policy = self._options.missing_field
            if policy in ("drop", "error"):
                self.leave_out(line, "weight", policy, split, "the row has no weight", repr(cell))
                return None
            return math.nan
        try:
            weight = float(cell)
        except ValueError:
            weight = math.nan
        if not 0 <= weight < math.inf or "_" in cell:
            allowed = "a number from 0 on, with a decimal point"
            action = "correct the value, or add it to data.na_values if it stands for a missing one"
            self._complaints.add(line, "is no weight", repr(cell), allowed, action)
            return None
        return weight
