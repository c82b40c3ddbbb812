"""The part of the spec that says which features of TFRecord examples are what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.spec.base import Complaint, Many, PathText, SpecModel, show

if TYPE_CHECKING:
    from harness.spec.models_data import DataSpec

_EXAMPLES = ("image", "text", "audio")


class Features(SpecModel):
    """Names of the features of `tf.train.Example` records, in TFRecord files that were written by
    others. One of `image`, `text` and `audio` is named: what the task is of."""

    image: str | None = None
    """Feature of the pictures: the bytes of a JPEG, PNG, GIF, BMP or WebP file."""
    text: str | None = None
    """Feature of the texts: UTF-8."""
    audio: str | None = None
    """Feature of the recordings: the bytes of a WAV or FLAC file, or samples of one channel at
    `data.audio.rate_hz`, floats in -1..1 or whole numbers of 16 bits."""
    label: str | None = None
    """Feature of the labels: a name as bytes, or a whole number. Of a multi-label task a list of
    any number of them; of a regression a number, or one for each of `names`."""
    labels: Many[str] = ()
    """In place of `label`, features with one number each: of a multi-label task 0 or 1, one feature
    for each label, in this order; of a regression with several targets one for each target."""
    multi_hot: bool = False
    """Of a multi-label task: `label` holds a number 0 or 1 for each of `names`, and no list."""
    names: Many[str] = ()
    """Of labels that are numbers: the name of each class, that of label 0 first. Without names a
    class is called by its number. Of a vector: what each of its numbers is."""
    names_file: PathText | None = None
    """As `names`, from a text file with a name in each line."""
    weight: str | None = None
    """Feature of example weights: a number from 0 on that multiplies the loss of its example."""
    group: str | None = None
    """Feature of what must stay on one side of a split, such as a patient: bytes or a number."""

    def checks(self) -> Iterator[Complaint]:
        if self.label is None and not self.labels:
            yield Complaint("label", "is missing", action="name the feature of the labels")
        if self.label is not None and self.labels:
            what = "one feature has all labels, or there is one for each, and both are named"
            yield Complaint("label", what, show(self.label), "null, with labels")
        if len(set(self.labels)) != len(self.labels):
            what = "names a feature twice"
            yield Complaint("labels", what, show(list(self.labels)), "each feature once")
        is_named = self.names or self.names_file is not None
        if self.labels and is_named:
            what = "the labels are called as their features are"
            yield Complaint("names", what, "given", "nothing, with labels", "remove it")
        if self.multi_hot and not (is_named or self.labels):
            what, action = "a vector does not say what its numbers are", "write names or names_file"
            yield Complaint("names", what, "[]", "the name of each label", action)
        if self.names and self.names_file is not None:
            what = "the names of the classes stand in the spec or in a file, and both are given"
            yield Complaint("names_file", what, show(self.names_file), "null, with names")
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            yield Complaint("names", "holds a name twice", show(twice), "a name for each class")


def feature_complaints(data: DataSpec, medium: str) -> Iterator[Complaint]:
    """Complains, by paths below ``data``, of features that do not fit the rest of a spec.

    Args:
        medium: what its examples are.
    """
    features = data.features
    if features is None:
        return
    if data.source is not None:
        what = "says how TFRecord files are read, and the examples come from a plug-in"
        yield Complaint("features", what, show(data.source.plugin), "null", "remove it")
    if getattr(features, medium) is None:
        what = f"does not say which feature is the {medium}"
        yield Complaint(f"features.{medium}", what, "null", "the name of a feature", "write it")
    for name in _EXAMPLES:
        value = getattr(features, name)
        if name != medium and value is not None:
            what = f"is not what the examples of this task are, which is {medium}"
            action = "remove it, or change task"
            yield Complaint(f"features.{name}", what, show(value), "null", action)
