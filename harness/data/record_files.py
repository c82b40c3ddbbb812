"""Which files a path of TFRecords means, and how their records are read.  Free of TensorFlow."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.manifest_rows import is_manifest
from harness.data.media import IMAGE, Medium, medium_of
from harness.data.multilabel import As
from harness.data.packed import is_packed
from harness.data.scan import listed
from harness.errors import DataError
from harness.spec.base import show
from harness.spec.models_data import DataSpec
from harness.spec.models_model import Learned

_NAME = re.compile(r"\.(tfrecords?|tfrec|records?)\b|-\d+-of-\d+$", re.IGNORECASE)
_PATTERN = re.compile(r"[*?]")


@dataclass(frozen=True)
class RecordOptions:
    """How TFRecords are read; the fields are those of ``data.*`` in a spec.

    Attributes:
        example, label, weight, group: names of features; without ``example`` no path is one of
            TFRecords.
        names: of labels that are numbers, the names of the classes; none calls them by number.
            Of a vector (``multi_hot``, or of a regression) what each of its numbers is.
        labels: features side by side in place of ``label``, one for each label or target.
        uncertain: of labels in cells the value that means it, and what it is taken as.
        unlabelled: a label that means none.
        fill: what stands for a missing weight; None is the mean or median of those that are there.
        limit: part of the examples that may be corrupt (0 to 1); 0 with policy ``fail``.
        rate_hz: of recordings.
        field: where the features are named, as messages have it.
        split: which one of a directory of TensorFlow Datasets is meant.
    """

    example: str | None = None
    label: str = ""
    weight: str | None = None
    group: str | None = None
    names: tuple[str, ...] = ()
    unlabelled: int | None = None
    missing_label: str = "drop"
    missing_file: str = "error"
    missing_field: str = "impute_mean"
    fill: float | None = None
    limit: float = 0.001
    sensitive: bool = False
    rate_hz: int | None = None
    medium: Medium = IMAGE
    field: str = "data.features"
    split: str = "train"
    learned: Learned = "class"
    labels: tuple[str, ...] = ()
    multi_hot: bool = False
    uncertain: tuple[int, As] | None = None

    @property
    def in_cells(self) -> bool:
        """Whether an example has numbers side by side, and no list of labels or class."""
        return self.learned == "numbers" or bool(self.labels) or self.multi_hot

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of what an example has side by side; none where only the records tell."""
        if self.labels or self.learned != "numbers":
            return self.labels or self.names
        return self.names or (self.label,)

    @property
    def label_features(self) -> tuple[str, ...]:
        """The features that say what is learned."""
        return self.labels or (self.label,)

    @property
    def many(self) -> str:
        """What messages call what is learned."""
        return {"class": "classes", "labels": "labels", "numbers": "targets"}[self.learned]

    @classmethod
    def of(cls, data: DataSpec, medium: str = "image", learned: Learned = "class") -> RecordOptions:
        """The options that a spec gives.

        Args:
            medium: what its examples are.
            learned: what is learned of them, see ``Spec.learned``.

        Raises:
            DataError: the file with the names of the classes cannot be used.
        """
        features, corrupt = data.features, data.corrupt
        options = cls(
            missing_label=data.missing.label,
            missing_file=data.missing.file,
            missing_field=data.missing.field,
            limit=corrupt.limit.value / 100 if corrupt.policy == "skip" else 0.0,
            sensitive=data.sensitive,
            rate_hz=data.audio.rate_hz if data.audio is not None else None,
            medium=medium_of(medium),
            learned=learned,
        )
        if features is None:
            return options
        names = features.names
        if features.names_file is not None:
            names = names_in(Path(features.names_file))
        return replace(
            options,
            example=getattr(features, medium),
            label=features.label or "",
            weight=features.weight,
            group=features.group,
            names=names,
            labels=features.labels,
            multi_hot=features.multi_hot,
            uncertain=(data.uncertain.value, data.uncertain.as_) if data.uncertain else None,
        )


def looks_like_records(path: str | Path) -> bool:
    """Whether a path names TFRecord files, by their names."""
    given = Path(path)
    if given.is_dir():
        return any(_NAME.search(one.name) for one in os.scandir(given) if one.is_file())
    return _NAME.search(given.name) is not None


def refuse_idle_features(data: DataSpec, given: Sequence[str]) -> None:
    """Holds that features are not named where no TFRecord file is.

    Args:
        given: the paths of a spec.

    Raises:
        DataError: they are.
    """
    if data.features is None or not all(
        is_manifest(path) or is_packed(Path(path)) for path in given
    ):
        return
    raise DataError(
        "data.features says how TFRecord files are read, and the spec names none",
        got=show(data.train, 200),
        allowed="a folder of TFRecord files, one file, or a pattern as DIR/train-*; a packed set "
        "needs no features",
        action="name such files, or remove data.features",
        path="data.features",
    )


def names_in(path: Path) -> tuple[str, ...]:
    """The lines of a text file; the last one may be empty.

    Raises:
        DataError: it cannot be read, a line is empty, or one comes twice.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        got = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} cannot be read", got=got) from error
    names = [line.strip() for line in (lines[:-1] if not lines[-1] else lines)]
    wrong = next((n for n, name in enumerate(names) if not name or name in names[:n]), None)
    if wrong is not None or len(names) < 2:
        raise DataError(
            f"{path} does not name the classes",
            got=f"{len(names)} lines" if wrong is None else f"{names[wrong]!r} as line {wrong + 1}",
            allowed="two lines or more, in each the name of a class, each once",
        )
    return tuple(names)


def record_files(path: str | Path) -> tuple[Path, list[str], dict[str, int]]:
    """(folder, the names of its TFRecord files in their order, other files by extension).

    Args:
        path: a folder, of which the files count whose names look like those of TFRecords; a file;
            or a folder and a pattern of names (``*``, ``?``).

    Raises:
        DataError: there is none.
    """
    given = Path(path)
    try:
        if given.is_file():
            return given.parent, [given.name], {}
        if given.is_dir():
            folder, pattern = given, None
        else:
            folder, pattern = given.parent, given.name
        found = sorted(one.name for one in os.scandir(folder) if one.is_file())
    except OSError as error:
        action = "check the path, and that its storage is mounted here"
        raise DataError(f"{path} cannot be read", got=error.strerror, action=action) from error
    found = [name for name in found if not name.startswith(".")]
    if pattern is not None:
        chosen = fnmatch.filter(found, pattern) if _PATTERN.search(pattern) else []
    else:
        chosen = [name for name in found if _NAME.search(name)]
    if not chosen:
        raise DataError(
            f"{path} names no TFRecord file" if pattern else f"{path} holds no TFRecord file",
            got=f"{len(found)} other files in {folder}"
            + (f", as {listed(found)}" if found else ""),
            allowed="files named as train-00000-of-00010 or with .tfrecord, one file, or a "
            "pattern as DIR/train-*",
            action="correct the path",
        )
    return folder, chosen, {} if pattern is not None else _others(found, chosen)


def _others(found: Sequence[str], chosen: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in set(found) - set(chosen):
        kind = name.rpartition(".")[2].lower() if "." in name else ""
        counts[kind] = counts.get(kind, 0) + 1
    return counts
