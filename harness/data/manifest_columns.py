"""Which column of a manifest means what, and how its values are read.  Free of TensorFlow."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.media import IMAGE, Medium, medium_of
from harness.data.multilabel import As
from harness.data.scan import listed, refuse
from harness.errors import DataError, Problem
from harness.spec.models_data import DataSpec
from harness.spec.models_model import Learned

SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
"""What a split column may say, in any case, and what it means."""

_WORDS = "patient|subject|person|participant|individual|speaker|user|case|study|site|hospital"
_ENDS = "id|uid|instance_?uid|no|nr|num|number|name|code|key|hash|index"
_GROUP = re.compile(rf"(?:{_WORDS})s?(?:_?(?:{_ENDS}))?")


@dataclass(frozen=True)
class ManifestOptions:
    """How a manifest is read; the fields are those of ``data.*`` in a spec."""

    path: str | None = "file"
    label: str = "label"
    group: str | None = None
    weight: str | None = None
    split: str | None = None
    root: str | None = None
    na_values: tuple[str, ...] = ("", "NA")
    missing_label: str = "drop"
    missing_file: str = "error"
    missing_field: str = "impute_mean"
    sensitive: bool = False
    text: str | None = None
    medium: Medium = IMAGE
    labels: tuple[str, ...] = ()
    uncertain: tuple[int, As] | None = None
    numeric: bool = False
    several: bool = False
    separator: str | None = None

    @classmethod
    def of(
        cls, data: DataSpec, medium: str = "image", learned: Learned = "class"
    ) -> ManifestOptions:
        """The options that a spec gives.

        Args:
            medium: what its examples are.
            learned: what is learned of them, see ``Spec.learned``.
        """
        columns, missing, uncertain = data.columns, data.missing, data.uncertain
        return cls(
            columns.path,
            columns.label,
            columns.group,
            columns.weight,
            columns.split,
            data.root,
            tuple(value.strip() for value in data.na_values),
            missing.label,
            missing.file,
            missing.field,
            data.sensitive,
            columns.text,
            medium_of(medium),
            columns.labels,
            (uncertain.value, uncertain.as_) if uncertain is not None else None,
            learned == "numbers",
            learned == "labels",
            columns.label_separator,
        )

    @property
    def learned(self) -> Learned:
        """What is learned of an example; several labels may also be known by their columns."""
        if self.numeric:
            return "numbers"
        return "labels" if self.several or self.labels else "class"

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of what an example has side by side; none where it has one class, or where its
        labels are known by the rows alone (``separator``)."""
        return self.labels or ((self.label,) if self.numeric else ())

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of what an example has side by side; none where one holds all."""
        return () if self.separator is not None else self.targets

    def beside(self, classes: Sequence[str]) -> ManifestOptions:
        """How a manifest is read of a model that has learned ``classes``.

        Where several labels or numbers were learned from a packed set, which has their names, the
        spec need not name them: they are the columns, or what a column lists.
        """
        is_left = not self.labels and (self.separator or self.label == type(self).label)
        return replace(self, labels=tuple(classes)) if self.learned != "class" and is_left else self

    @property
    def example(self) -> str:
        """Which of the fields names the column of the examples: ``text`` or ``path``."""
        return "path" if self.text is None else "text"

    def show(self, value: str) -> str:
        """A value of a row as it may stand in a message."""
        return "a value that is not shown (data.sensitive)" if self.sensitive else repr(value)


@dataclass(frozen=True)
class Places:
    """Where in a row the columns stand, from 0; None for one that the manifest lacks."""

    width: int
    example: int
    label: int
    group: int | None
    weight: int | None
    split: int | None
    labels: tuple[int, ...] = ()


def places(file: Path, line: int, header: Sequence[str], options: ManifestOptions) -> Places:
    """Finds the columns that the options name.

    The column of splits may be lacking: who needs it looks at the result.

    Raises:
        DataError: a column is not there, or there twice; names what is there.
    """
    problems: list[Problem] = []
    found: dict[str, int | None] = {}
    example = options.example
    named = [(role, getattr(options, role)) for role in (example, "group", "weight", "split")]
    # Of a regression with one target its column is that of the label.
    in_columns = options.labels if options.separator is None else ()
    named += [("labels", name) for name in in_columns] or [("label", options.label)]
    for role, name in named:
        found[role] = header.index(name) if name in header else None
        if name is None:
            continue
        if header.count(name) > 1:
            what = f"the column {name!r} is there {header.count(name)} times"
            action = "give each column a name of its own"
            problems.append(Problem(what, action=action, file=str(file), line=line))
        if name not in header and role != "split":
            problems.append(no_column(file, line, header, options, role, name))
    refuse(problems)
    at, label = found[example], found["labels" if in_columns else "label"]
    assert at is not None and label is not None, "they were held to be there"
    several = tuple(map(header.index, options.columns))
    return Places(len(header), at, label, found["group"], found["weight"], found["split"], several)


def no_column(
    file: Path,
    line: int,
    header: Sequence[str],
    options: ManifestOptions,
    role: str,
    name: str | None = None,
) -> Problem:
    """The problem of a column that a manifest lacks; ``name`` is one of those of a role."""
    name, field = name or getattr(options, role), f"data.columns.{role}"
    near = difflib.get_close_matches(name, header, 1)
    return Problem(
        f"there is no column {name!r}",
        "the columns " + ", ".join(map(repr, header)),
        f"a header with the column that {field} names",
        f"set {field} to {near[0]}" if near else f"name the column that is meant with {field}",
        file=str(file),
        line=line,
    )


def group_notes(file: Path, header: Sequence[str], options: ManifestOptions) -> Iterator[str]:
    """Warns of columns that look as if they named what must stay on one side of a split."""
    used = {options.path, options.text, options.label, options.group, options.weight, options.split}
    used |= set(options.columns)
    alike = [name for name in header if name not in used and looks_like_group(name)]
    if alike:
        is_one = len(alike) == 1
        yield (
            f"warning: {file} has {'a column' if is_one else 'columns'} that no field uses and "
            f"that {'looks' if is_one else 'look'} like a group: {listed(alike)}; "
            "data.columns.group keeps all examples of a group on one side of a split"
        )


def looks_like_group(name: str) -> bool:
    """Whether a column's name is that of a person, a site or the like, as ``PatientID`` is."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return _GROUP.fullmatch(re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")) is not None


def refuse_other_targets(
    file: Path, options: ManifestOptions, classes: Sequence[str] | None
) -> None:
    """Holds that a manifest is read for the labels or numbers of the training data.

    Args:
        classes: names of these; None where it is the training data itself.

    Raises:
        DataError: it is read for others, or in another order.
    """
    names = options.targets
    if not names or classes is None or tuple(classes) == names:
        return
    many, field = (
        "targets" if options.numeric else "labels",
        "labels" if options.labels else "label",
    )
    raise DataError(
        f"{file} is read for other {many} than those of the training data",
        got=listed(list(names)),
        allowed=f"{listed(list(classes))}, in this order",
        action=f"name these {'labels' if options.separator else 'columns'} with "
        f"data.columns.{field}",
        path=f"data.columns.{field}",
    )


def refuse_folder(options: ManifestOptions, path: str) -> None:
    """Refuses a folder or records of others of a task with several labels at once, or of numbers.

    Raises:
        DataError: what the task learns stands in columns, which only a manifest has.
    """
    if options.numeric:
        raise DataError(
            f"{path} is no manifest, and gives each example a class, not a number",
            allowed="a manifest (.csv, .tsv) with a column of numbers, or a set packed of one",
            action=f"write one, with the columns {listed(list(options.targets))}",
            path="data.columns",
        )
    if options.learned == "labels":
        raise DataError(
            f"{path} is no manifest, and gives each example one label only",
            allowed="a manifest (.csv, .tsv) with a column for each label or one that lists them, "
            "or a set packed of one",
            action="name one of these, or set task to a classification",
            path="data.columns.labels",
        )
