"""What the spec of a multi-label task or a regression must say, and what means nothing to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from harness.spec.base import Complaint, show
from harness.spec.models_data import DataSpec

_TABLES = (".csv", ".tsv")


def several_labels(task: str, data: DataSpec) -> Iterator[Complaint]:
    """Complains of fields that do not go with ``task``, which is no regression."""
    columns, uncertain = data.columns, data.uncertain
    labels = list(columns.labels)
    if not task.endswith("_multilabel"):
        if labels:
            action = "remove it, or set task: image_multilabel (text_, audio_) or image_regression"
            what = "is of multi-label tasks and regressions"
            yield Complaint("data.columns.labels", what, show(labels), "[]", action)
        yield from _no_separator(data)
        yield from _features_of(data, "multi-label tasks and regressions", "labels", "multi_hot")
        yield from _uncertain(data)
        return
    separator = columns.label_separator
    if separator is not None:
        yield from _separated(data, separator)
    elif not labels and not _knows_its_labels(data):
        allowed = "columns of 0 and 1, or data.columns.label_separator"
        action = "write it, as columns: {labels: [edema, fracture]}"
        what = "a multi-label task needs a column for each label, or one that lists them"
        yield Complaint("data.columns.labels", what, "[]", allowed, action)
    yield from _columns(data, "tasks with one label")
    yield from _listed_features(data)
    if data.source is not None:
        what = "gives each example one label, and the task is a multi-label one"
        yield Complaint("data.source", what, show(data.source.plugin), "null", "name a manifest")
    if data.balance != "none":
        what = "an example of several labels is of no one class that could be balanced"
        yield Complaint("data.balance", what, data.balance, "none", _USE_WEIGHTS)
    if uncertain is not None and uncertain.value in (0, 1):
        what, action = "means absent or present already", "name the value that means uncertain"
        got = show(uncertain.value)
        yield Complaint("data.uncertain.value", what, got, "another number", action)


_USE_WEIGHTS = "remove it; data.columns.weight gives examples weights"


def regression(data: DataSpec, label_smoothing: float) -> Iterator[Complaint]:
    """Complains of what does not go with a task that learns numbers.

    Args:
        label_smoothing: ``training.label_smoothing``.
    """
    yield from _no_separator(data)
    if data.columns.labels:
        yield from _columns(data, "a regression with one target")
    yield from _features_of(data, "multi-label tasks", "multi_hot")
    yield from _uncertain(data)
    yield from _no_numbers(data)
    what = "numbers are of no class that could be balanced"
    if data.balance != "none":
        yield Complaint("data.balance", what, data.balance, "none", _USE_WEIGHTS)
    if label_smoothing:
        what = "is of classes, and the task is a regression"
        got = show(label_smoothing)
        yield Complaint("training.label_smoothing", what, got, "0", "remove it")


def _no_numbers(data: DataSpec) -> Iterator[Complaint]:
    """Sources that give each example a class."""
    instead = "list the examples in a CSV file with a column of numbers (data.columns.label)"
    if data.source is not None:
        what = "gives each example a class, and the task is a regression"
        yield Complaint("data.source", what, show(data.source.plugin), "null", instead)


def _features_of(data: DataSpec, of: str, *names: str) -> Iterator[Complaint]:
    """Complains of fields of ``data.features`` that are of other tasks."""
    for name in names:
        value = getattr(data.features, name, None)
        if value:
            got = show(list(value) if isinstance(value, tuple) else value)
            yield Complaint(f"data.features.{name}", f"is of {of}", got, "nothing", "remove it")


def _listed_features(data: DataSpec) -> Iterator[Complaint]:
    """Of records of a multi-label task."""
    features = data.features
    if features is None:
        return
    if features.multi_hot and features.labels:
        what = "is of one feature with all labels, and there is one for each"
        yield Complaint("data.features.multi_hot", what, "true", "false", "remove it")
    if data.uncertain is not None and not (features.labels or features.multi_hot):
        what = "a list says which labels an example has, and none is uncertain in it"
        got = show(data.uncertain.model_dump(by_alias=True))
        yield Complaint("data.uncertain", what, got, "null", "remove it")


def _knows_its_labels(data: DataSpec) -> bool:
    """Whether the training data may tell its labels itself, as a packed set and records do."""
    if data.train is None or data.source is not None:
        return False
    return PurePath(data.train).suffix.lower() not in _TABLES


def _columns(data: DataSpec, of: str) -> Iterator[Complaint]:
    """Of columns of labels where those stand in place of the one of ``data.columns.label``."""
    columns, labels = data.columns, list(data.columns.labels)
    if len(set(labels)) < len(labels):
        what = "names a column twice"
        yield Complaint("data.columns.labels", what, show(labels), "each column once")
    if columns.label_separator is not None:
        return
    if columns.label != type(columns).model_fields["label"].default:
        what = f"is of {of}, and data.columns.labels names the columns here"
        yield Complaint("data.columns.label", what, show(columns.label), "nothing", "remove it")


def _separated(data: DataSpec, separator: str) -> Iterator[Complaint]:
    """Of a column that lists the labels of each example."""
    if separator != separator.strip() and separator.strip():
        what, action = "holds space, which does not count around a label", "write it without"
        yield Complaint("data.columns.label_separator", what, show(separator), "a sign", action)
    wrong = [name for name in data.columns.labels if separator in name or name != name.strip()]
    if wrong or "" in data.columns.labels:
        what = "no cell can hold this label: labels stand between separators, without space around"
        yield Complaint("data.columns.labels", what, show((wrong or [""])[0]), "other names")
    if data.uncertain is not None:
        what = "a list says which labels an example has, and none is uncertain in it"
        got = show(data.uncertain.model_dump(by_alias=True))
        action = "remove it, or give each label a column (data.columns.labels)"
        yield Complaint("data.uncertain", what, got, "null", action)


def _no_separator(data: DataSpec) -> Iterator[Complaint]:
    separator = data.columns.label_separator
    if separator is not None:
        action = "remove it, or set task: image_multilabel (text_, audio_)"
        what = "is of multi-label tasks"
        yield Complaint("data.columns.label_separator", what, show(separator), "null", action)


def _uncertain(data: DataSpec) -> Iterator[Complaint]:
    if data.uncertain is not None:
        got = show(data.uncertain.model_dump(by_alias=True))
        action = "remove it, or set task: image_multilabel (text_, audio_)"
        yield Complaint("data.uncertain", "is of multi-label tasks", got, "null", action)
