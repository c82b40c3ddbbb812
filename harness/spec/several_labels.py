"""What the spec of a multi-label task must say, and what means nothing to another one."""

from __future__ import annotations

from collections.abc import Iterator

from harness.spec.base import Complaint, show
from harness.spec.models_data import DataSpec


def several_labels(task: str, data: DataSpec) -> Iterator[Complaint]:
    """Complains of fields that do not go with ``task``."""
    columns, uncertain = data.columns, data.uncertain
    labels = list(columns.labels)
    if not task.endswith("_multilabel"):
        action = "remove it, or set task: image_multilabel (text_, audio_)"
        if labels:
            what = "is of multi-label tasks"
            yield Complaint("data.columns.labels", what, show(labels), "[]", action)
        if uncertain is not None:
            got = show(uncertain.model_dump(by_alias=True))
            yield Complaint("data.uncertain", "is of multi-label tasks", got, "null", action)
        return
    if not labels:
        allowed, action = "columns of 0 and 1", "write it, as columns: {labels: [edema, fracture]}"
        what = "a multi-label task needs a column for each label"
        yield Complaint("data.columns.labels", what, "[]", allowed, action)
    if len(set(labels)) < len(labels):
        what = "names a column twice"
        yield Complaint("data.columns.labels", what, show(labels), "each column once")
    if columns.label != type(columns).model_fields["label"].default:
        what = "is of tasks with one label, and data.columns.labels names the columns here"
        yield Complaint("data.columns.label", what, show(columns.label), "nothing", "remove it")
    if data.source is not None:
        what = "gives each example one label, and the task is a multi-label one"
        yield Complaint("data.source", what, show(data.source.plugin), "null", "name a manifest")
    if data.balance != "none":
        what = "an example of several labels is of no one class that could be balanced"
        action = "remove it; data.columns.weight gives examples weights"
        yield Complaint("data.balance", what, data.balance, "none", action)
    if uncertain is not None and uncertain.value in (0, 1):
        what, action = "means absent or present already", "name the value that means uncertain"
        got = show(uncertain.value)
        yield Complaint("data.uncertain.value", what, got, "another number", action)
