"""The whole spec.  Attribute names are the YAML keys; every field has its doc below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from harness.spec.adapting import adapting
from harness.spec.base import (
    Complaint,
    EverySteps,
    IsPath,
    Many,
    Name,
    Options,
    SpecModel,
    Words,
    new,
    show,
)
from harness.spec.duration import Duration
from harness.spec.feature_cache import cannot_cache
from harness.spec.models_augment import MEDIA_WORDS
from harness.spec.models_checkpoint import Best, Checkpoint
from harness.spec.models_cluster import Cluster
from harness.spec.models_data import DataSpec
from harness.spec.models_model import (
    MULTILABEL,
    REGRESSIONS,
    Adaptation,
    Backbone,
    Head,
    Learned,
    TaskText,
)
from harness.spec.models_training import EarlyStopping, Training
from harness.spec.several_labels import regression, several_labels

PluginFile = Annotated[
    str,
    Field(min_length=1),
    IsPath("plugin"),
    Words("a Python file, or the name of an installed entry point"),
]


LOWER_IS_BETTER = ("loss", "error", "mae", "mse", "rmse")
"""Endings of the names of metrics whose mode `auto` is min."""
HIGHER_IS_BETTER = ("accuracy", "precision", "recall", "f1", "auc", "r2")
"""Endings of names that are surely not of losses."""


def known_mode(metric: str) -> Literal["min", "max"] | None:
    """The mode that a metric's name tells, None where it tells nothing."""
    if metric.lower().endswith(LOWER_IS_BETTER):
        return "min"
    return "max" if metric.lower().endswith(HIGHER_IS_BETTER) else None


class About(SpecModel):
    """Who made it and what it is for; goes into the run's record."""

    authors: Many[str] = ()
    """Names of the authors."""
    licence: str | None = None
    """Licence of the trained model."""
    data_licence: str | None = None
    """Licence of the data."""
    intended_use: str | None = None
    """What the trained model is meant for."""


class Profile(SpecModel):
    """When TensorFlow's profiler runs."""

    start_step: Annotated[int, Field(ge=1)] = 10
    """Step at which profiling starts."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 10
    """Number of steps profiled."""


class Logging(SpecModel):
    """What is written while training."""

    every: EverySteps = Duration(50.0, "steps")
    """Distance between training metrics, in steps or epochs."""
    images: bool = True
    """Write examples (pictures, texts) to TensorBoard; never done when `data.sensitive` is true."""
    profile: Profile | None = None
    """Profile some steps; null never does."""
    histograms: bool = False
    """Write histograms of the weights to TensorBoard once an epoch."""


class Sweep(SpecModel):
    """Many runs of one spec with different values."""

    method: Literal["grid", "random"] = "grid"
    """All combinations, or random ones."""
    parameters: Options
    """Values to try, by dotted field: a list, or `{low, high, log}`."""
    trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Number of runs; null is all combinations."""
    parallel: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Runs at the same time."""


class Spec(SpecModel):
    """One job: what to train, on what, how, and where."""

    harness_spec: Literal[1]
    """Version of the spec's form."""
    name: Name
    """Name of the job; the runs folder has one folder of this name."""
    about: About = new(About)
    """Who made it and what it is for."""
    task: TaskText = "image_classification"
    """What the model learns: MEDIUM_classification, MEDIUM_multilabel, MEDIUM_regression with
    image, text or audio as MEDIUM, or `plugin:NAME`."""
    backbone: Backbone
    """The pretrained part."""
    data: DataSpec
    """Examples."""
    head: Head = new(Head)
    """The new part, on top of the backbone."""
    training: Training = new(Training)
    """How the model is trained."""
    adaptation: Adaptation | None = None
    """Adaptation to a target domain; null for none."""
    plugins: Many[PluginFile] = ()
    """Python files (or names of installed entry points) that register plug-ins."""
    logging: Logging = new(Logging)
    """What is written while training."""
    sweep: Sweep | None = None
    """Many runs of this spec with different values; null for one run."""
    checkpoint: Checkpoint = new(Checkpoint)
    """When training is saved and what is kept."""
    access: Literal["private", "group"] = "private"
    """Who may read the run: only its owner, or the group of the folder it is in."""
    cluster: Cluster = new(Cluster)
    """Where and on how much it runs."""

    @property
    def medium(self) -> Literal["image", "text", "audio"]:
        """What the examples are; a task of a plug-in is one of pictures."""
        for medium in ("text", "audio"):
            if self.task.startswith(f"{medium}_"):
                return medium
        return "image"

    @property
    def numeric(self) -> bool:
        """Whether what is learned are numbers: a regression."""
        return self.task in REGRESSIONS

    @property
    def trains_on_target(self) -> bool:
        """Whether a step takes examples of a target domain beside those of the source.

        They are passed through the whole model, so no features of the source alone will do.
        """
        return self.adaptation is not None and self.adaptation.method != "adabn"

    def image_size_of(self, phase: int) -> int | None:
        """Height and width in pixels in a phase; None of what is no picture."""
        return self.training.phases[phase].image_size or self.data.image_size

    def image_sizes(self) -> tuple[int, ...]:
        """The sizes of all phases, from small to large; none of what is no picture."""
        sizes = {self.image_size_of(phase) for phase in range(len(self.training.phases))}
        return tuple(sorted(size for size in sizes if size is not None))

    def batch_size_of(self, phase: int) -> int:
        """Examples of a global batch in a phase."""
        return self.training.phases[phase].batch_size or self.training.batch_size

    def batch_sizes(self) -> dict[str, int]:
        """Examples of a global batch, by the fields that say so of some phase."""
        found = {}
        for at, phase in enumerate(self.training.phases):
            own = f"training.phases.{at}.batch_size"
            field = "training.batch_size" if phase.batch_size is None else own
            found[field] = self.batch_size_of(at)
        return found

    @property
    def learned(self) -> Learned:
        """What is learned of an example; by a task of a plug-in its class."""
        if self.numeric:
            return "numbers"
        return "labels" if self.task in MULTILABEL else "class"

    def checks(self) -> Iterator[Complaint]:
        yield from self._other_media()
        lanes = self.data.lanes
        for field, batch in self.batch_sizes().items():
            if lanes is not None and batch % lanes:
                yield Complaint("data.lanes", f"must divide {field} ({batch})", show(lanes))
        if self.training.jit_compile and self.medium == "text":
            what, action = "XLA has no operations on texts", "set training.jit_compile: false"
            yield Complaint("training.jit_compile", what, "true", "false", action)
        if self.backbone.signature is not None:
            yield from self._not_trainable()
        if self.data.validation is None:
            yield from self._without_validation()
        yield from self._wrong_way()
        yield from cannot_cache(
            self.backbone.handle, self.data, self.training, adapts=self.adaptation is not None
        )
        yield from adapting(self)
        if self.numeric:
            yield from regression(self.data, self.training.label_smoothing)
        else:
            yield from several_labels(self.task, self.data)

    def _other_media(self) -> Iterator[Complaint]:
        """What is of pictures where there are none, and the like."""
        for found in self.data.of_other_media(self.medium):
            yield replace(found, path=f"data.{found.path}")
        for found in self.backbone.of_other_media(self.medium):
            yield replace(found, path=f"backbone.{found.path}")
        what = f"is of pictures, and the examples are {MEDIA_WORDS[self.medium]}"
        for number, phase in enumerate(self.training.phases):
            if self.medium != "image" and phase.image_size is not None:
                path = f"training.phases.{number}.image_size"
                yield Complaint(path, what, show(phase.image_size), "null", "remove it")

    def _not_trainable(self) -> Iterator[Complaint]:
        """A signature has one mode and no list of what can be trained."""
        for at, phase in enumerate(self.training.phases):
            if phase.unfreeze != "none":
                yield Complaint(
                    f"training.phases.{at}.unfreeze",
                    "a module that is called by a signature cannot be trained",
                    show(phase.unfreeze),
                    "none with backbone.signature",
                    "set unfreeze: none, or call the module itself (leave backbone.signature out)",
                )

    def _wrong_way(self) -> Iterator[Complaint]:
        """A mode that takes the worst for the best."""
        watched: list[tuple[str, Best | EarlyStopping | None]] = [
            ("checkpoint.best", self.checkpoint.best),
            ("training.early_stopping", self.training.early_stopping),
        ]
        for path, chosen in watched:
            right = known_mode(chosen.metric) if chosen is not None else None
            if chosen is not None and right is not None and chosen.mode not in ("auto", right):
                better = "lower" if right == "min" else "higher"
                yield Complaint(
                    f"{path}.mode",
                    f"of {chosen.metric} {better} is better",
                    chosen.mode,
                    f"auto or {right}",
                    f"leave mode out, or write mode: {right}",
                )

    def _without_validation(self) -> Iterator[Complaint]:
        stopping = self.training.early_stopping
        watched = [("checkpoint.best.metric", self.checkpoint.best.metric)]
        if stopping is not None:
            watched.append(("training.early_stopping.metric", stopping.metric))
        if self.training.schedule.watched is not None:
            watched.append(("training.schedule.metric", self.training.schedule.watched))
        for path, metric in watched:
            if metric.startswith("val_"):
                yield Complaint(
                    path,
                    "there are no validation examples to measure it on",
                    show(metric),
                    "a training metric, as loss",
                    "set data.validation or choose a training metric",
                )
