"""The part of the spec that says where examples come from and how they are prepared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from harness.spec.base import (
    MAPPING,
    SCALAR,
    Complaint,
    Many,
    PathText,
    Percent,
    PluginRef,
    SpecModel,
    kind_of,
    new,
    show,
)
from harness.spec.duration import Duration
from harness.spec.models_augment import MEDIA_WORDS, Augment
from harness.spec.models_features import Features, feature_complaints


class ValidationFraction(SpecModel):
    """Validation examples split off the training examples."""

    fraction: Annotated[float, Field(gt=0, lt=1)]
    """Part of the training examples (0 to 1), drawn by class, fixed by `training.seed`. Where there
    are no classes, as of a regression, all are drawn alike."""


class Columns(SpecModel):
    """Names of the columns of a manifest (CSV or TSV)."""

    path: str | None = "file"
    """Column of the file paths; null where `text` is given."""
    text: str | None = None
    """Column of the texts, where these stand in the manifest itself; null where it names files."""
    label: str = "label"
    """Column of the labels; of a regression that of the numbers that are learned."""
    labels: Many[str] = ()
    """Of a multi-label task: columns of 0 and 1, one for each label, in this order; with
    `label_separator` the names of the labels. Of a regression with several targets: their columns
    of numbers. A packed set knows them itself; where they are written too, they must be the
    same."""
    label_separator: Annotated[str, Field(min_length=1, max_length=8)] | None = None
    """Of a multi-label task whose labels stand in one column: what is between two of them in a cell
    of `label`, such as `;`. An example with an empty cell has no label."""
    group: str | None = None
    """Column of what must stay on one side of a split, such as a patient."""
    weight: str | None = None
    """Column of example weights: numbers from 0 on that multiply the loss of their example."""
    split: str | None = None
    """Column that says train, validation or test; the manifest at `data.train` must have it."""

    def checks(self) -> Iterator[Complaint]:
        if self.text is not None and self.path is not None:
            what = "an example is a text of the manifest or a file, and both columns are named"
            yield Complaint("path", what, show(self.path), "null, with data.columns.text")
        if self.text is None and self.path is None:
            what = "no column says where the examples are"
            yield Complaint("path", what, "null", "the name of a column, or data.columns.text")


class Audio(SpecModel):
    """How recordings are prepared: mixed to one channel, resampled, cut or padded at their end."""

    rate_hz: Annotated[int, Field(ge=1000, le=192_000)]
    """Samples a second, as the backbone takes them."""
    seconds: Annotated[float, Field(gt=0, le=3600)]
    """Length: what is longer is cut, what is shorter is followed by silence."""

    @property
    def samples(self) -> int:
        """The length in samples, 1 or more."""
        return max(1, round(self.rate_hz * self.seconds))


class Missing(SpecModel):
    """What to do where a value is missing. Of a file that is there and lacks pixels, samples or
    text `data.corrupt` says it."""

    label: Literal["drop", "error"] = "drop"
    """An example without label: leave it out, or stop."""
    file: Literal["drop", "error"] = "error"
    """An example whose file does not exist, or a row without text: leave it out, or stop."""
    field: Literal["impute_mean", "impute_median", "drop", "error"] = "impute_mean"
    """A missing weight: take the mean or median of the training examples, leave the example out, or
    stop. An example without group or split is left out with `drop`, else an error."""


class Uncertain(SpecModel):
    """Uncertain labels of multi-label data."""

    value: int = -1
    """The label value that means uncertain."""
    as_: Annotated[Literal["ignore", "zero", "one"], Field(alias="as")] = "ignore"
    """Leave the label out of the loss, or take it as absent (zero) or present (one)."""


class Corrupt(SpecModel):
    """What to do with an example that cannot be decoded."""

    policy: Literal["skip", "fail"] = "skip"
    """Skip it (mask 0, its file is recorded), or fail at the first one."""
    limit: Percent = Duration(0.1, "percent")
    """Skipped examples, as a percentage of the split, above which the run fails."""


Validation = Annotated[
    Annotated[ValidationFraction, Tag(MAPPING)] | Annotated[PathText, Tag(SCALAR)],
    Discriminator(kind_of),
]


class DataSpec(SpecModel):
    """Examples: where they are, their order, and how they are prepared."""

    train: PathText | None = None
    """Training examples: a folder per class, a manifest, shards or a TFDS directory. Of a manifest
    with a column of splits, its training rows."""
    validation: Validation | None = new(ValidationFraction, fraction=0.1)
    """Validation examples: `{fraction: F}` of the training ones, a path, or null for none. Where
    the manifest at `data.train` has validation rows, those stand in place of a fraction."""
    test: PathText | None = None
    """Test examples, measured once at the end with the best weights. Null takes the test rows of
    the manifest at `data.train`, if it has such, else none."""
    source: PluginRef | None = None
    """A plug-in of kind source that gives the examples, instead of files at `data.train`."""
    features: Features | None = None
    """Names of the features of TFRecord examples, which makes `train`, `validation` and `test`
    TFRecord files: a folder of them, one file, or a pattern such as `DIR/train-*`."""
    columns: Columns = new(Columns)
    """Names of a manifest's columns. A column that none of them names is not read."""
    root: PathText | None = None
    """What relative paths in a manifest start from; null is the manifest's folder. Of a manifest
    that holds the texts themselves it is null."""
    na_values: Many[str] = ("", "NA")
    """Texts in a manifest that mean a missing value; the space around a value does not count."""
    image_size: Annotated[int, Field(ge=8, le=8192)] | None = 224
    """Height and width in pixels that images are resized to; null where there are none."""
    decode: Literal["full", "scaled"] = "full"
    """Decode pictures in full, or JPEGs at a half, quarter or eighth where both sides stay large
    enough for `image_size` and any crop, which is faster and changes pixels a little."""
    audio: Audio | None = None
    """Rate and length of recordings, which a task of audio needs; null for all else."""
    augment: Augment = new(Augment)
    """Random changes of training examples."""
    balance: Literal["none", "class_weights", "oversample", "undersample"] = "none"
    """Against unequal classes: weights in the loss, or drawing each class as often as the largest
    (oversample) or the smallest (undersample), which packed data cannot."""
    missing: Missing = new(Missing)
    """What to do where a value is missing."""
    uncertain: Uncertain | None = None
    """Uncertain labels of multi-label data; null for none."""
    corrupt: Corrupt = new(Corrupt)
    """What to do with examples that cannot be decoded."""
    cache: Literal["none", "memory", "disk"] = "none"
    """Keep decoded training and validation examples from one epoch to the next, in the memory of
    the ranks or on the node's disk (its scratch, as for `cluster.stage`), as far as there is
    room."""
    sensitive: bool = False
    """True keeps media, paths and example ids out of logs, reports and cards."""
    lanes: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Virtual readers, a power of two that divides the global batch; the number of replicas
    must divide it. Null is the largest such number up to 64."""
    block: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Consecutive examples that stay together when an epoch permutes the reading order. Null is 32,
    and fewer for large examples or many lanes."""
    window: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Blocks of a lane among which examples are shuffled. Null lets all lanes together shuffle
    among 8,192 examples, and among fewer where these would take more than 512 MB."""

    def checks(self) -> Iterator[Complaint]:
        if self.train is None and self.source is None:
            yield Complaint("train", "is missing", action="name the folder of training examples")
        lanes = self.lanes
        if lanes is not None and lanes & (lanes - 1):
            yield Complaint("lanes", "must be a power of two", show(lanes), "1, 2, 4, 8, ...")
        if self.columns.text is not None and self.root is not None:
            what = "no path starts from it, as the texts stand in the manifest (data.columns.text)"
            yield Complaint("root", what, show(self.root), "null", "remove it")

    def of_other_media(self, medium: str) -> Iterator[Complaint]:
        """Complains of what is set and means nothing to examples of ``medium``, or is lacking."""
        words = MEDIA_WORDS[medium]
        if medium == "image" and self.image_size is None:
            allowed = "height and width in pixels, from 8 to 8192"
            yield Complaint("image_size", "pictures need a size", "null", allowed, "write one")
        if medium != "image" and self.image_size is not None:
            what = f"is of pictures, and the examples are {words}"
            yield Complaint("image_size", what, show(self.image_size), "null", "remove it")
        if medium != "image" and self.decode != "full":
            what = f"is of pictures, and the examples are {words}"
            yield Complaint("decode", what, show(self.decode), "full", "remove it")
        if medium == "audio" and self.audio is None:
            allowed = "the rate and length that the backbone takes"
            action = "write it, as audio: {rate_hz: 16000, seconds: 1.0}"
            yield Complaint("audio", "recordings need a rate and a length", "null", allowed, action)
        if medium != "audio" and self.audio is not None:
            what = f"is of recordings, and the examples are {words}"
            yield Complaint("audio", what, show(self.audio.model_dump()), "null", "remove it")
        if medium != "text" and self.columns.text is not None:
            what = f"is of texts, and the examples are {words}"
            action = "remove it, or set task: text_classification"
            yield Complaint("columns.text", what, show(self.columns.text), "null", action)
        yield from self.augment.of_other_media(medium)
        yield from feature_complaints(self, medium)
