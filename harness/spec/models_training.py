"""The part of the spec that says how it is trained: batch, optimizer, schedule, phases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from harness.spec.base import (
    MAPPING,
    SCALAR,
    Complaint,
    Many,
    MetricName,
    Part,
    PluginRef,
    SpecModel,
    kind_of,
    new,
    show,
)
from harness.spec.duration import Duration
from harness.spec.models_phases import FEATURE_EXTRACTION, Phase


class Optimizer(SpecModel):
    """How gradients change the weights."""

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    """The optimizer."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Decoupled weight decay, per step and scaled by the learning rate (adamw's form)."""
    l2: Annotated[float, Field(ge=0, le=1)] = 0.0
    """L2 penalty: so many times the sum of the squares of the trained weights is minimised with the
    loss, as by `kernel_regularizer=L2(...)` of Keras; figures show the loss without it."""
    exclude: Many[Literal["bias", "norm"]] = ("bias", "norm")
    """Kinds of variables without weight decay and L2 penalty: biases, and parameters of
    normalisation."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global L2 norm of the gradients, which are scaled down to it; null never clips."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Momentum of sgd and rmsprop; null is 0."""

    def checks(self) -> Iterator[Complaint]:
        if self.momentum is not None and self.name in ("adam", "adamw"):
            yield Complaint(
                "momentum",
                f"{self.name} has none",
                show(self.momentum),
                "null, or a number with sgd or rmsprop",
                "remove it or change training.optimizer.name",
            )


class Schedule(SpecModel):
    """The learning rate over one phase; each phase has its own."""

    name: Literal["constant", "cosine", "linear", "step", "plateau"] = "constant"
    """Keep the rate; let it fall to zero at the phase's end along a `cosine` or a line (`linear`);
    multiply it by `factor` after each length `every` (`step`), or where `metric` no longer gets
    better (`plateau`)."""
    warmup: Part = Duration(0.0, "steps")
    """Length over which the rate first rises linearly from zero; % is of the phase."""
    every: Part | None = None
    """Of step: the length, from the phase's beginning on; % is of the phase."""
    factor: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of step and plateau: what the rate is multiplied by; null is 0.1."""
    metric: MetricName | None = None
    """Of plateau: the metric watched, once an epoch; null is `val_loss`."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Of plateau: epochs without improvement after which the rate is lowered; null is 2."""
    mode: Literal["auto", "min", "max"] | None = None
    """Of plateau: whether lower (min) or higher (max) is better; null is auto, as of
    `early_stopping`."""
    min_delta: Annotated[float, Field(ge=0)] | None = None
    """Of plateau: smallest change, in the metric's unit, that counts as improvement; null is
    0.0001."""

    @property
    def watched(self) -> str | None:
        """The metric that the rate goes by; None where it goes by the step alone."""
        return (self.metric or "val_loss") if self.name == "plateau" else None

    def checks(self) -> Iterator[Complaint]:
        if self.name == "step" and not self.every:
            what = "a rate that falls in steps needs their length"
            yield Complaint("every", what, "null", "a length, as 30% or 10 epochs", "write it")
        idle = {
            "every": ("step",),
            "factor": ("step", "plateau"),
            "metric": ("plateau",),
            "patience": ("plateau",),
            "mode": ("plateau",),
            "min_delta": ("plateau",),
        }
        for field, names in idle.items():
            value = getattr(self, field)
            if value is not None and self.name not in names:
                what, allowed = f"is of {' and '.join(names)}", f"null with name: {self.name}"
                action = "remove it or change training.schedule.name"
                yield Complaint(field, what, show(value), allowed, action)


class EarlyStopping(SpecModel):
    """Ends a phase when a metric no longer gets better."""

    metric: MetricName = "val_loss"
    """The metric watched, once an epoch."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Epochs without improvement after which the phase ends."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Smallest change, in the metric's unit, that counts as improvement."""
    mode: Literal["auto", "min", "max"] = "auto"
    """Whether lower (min) or higher (max) is better; auto: losses and errors lower, else higher."""


class Ema(SpecModel):
    """Exponential moving average of the weights, used for validation, test, prediction and
    export."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Part of the average that is kept each step, and at most (1 + n) / (10 + n) after n steps."""


class FeatureCache(SpecModel):
    """Features of a frozen backbone, computed once and kept in the shared cache; an error where
    they cannot be."""

    copies: Annotated[int, Field(ge=1, le=1000)] = 1
    """Differently augmented copies of every example: epoch e trains on copy e modulo their number,
    which is the one that this epoch would have had."""
    dtype: Literal["float16", "float32"] = "float16"
    """Number format in which features are stored; float16 takes half the room and rounds them to
    three digits."""


def _feature_extraction() -> tuple[Phase, ...]:
    return (Phase.model_construct(**FEATURE_EXTRACTION),)


FeatureCacheChoice = Annotated[
    Annotated[FeatureCache, Tag(MAPPING)] | Annotated[Literal["auto", "off"], Tag(SCALAR)],
    Discriminator(kind_of),
]


class Training(SpecModel):
    """How the model is trained."""

    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    """Examples of one batch over all replicas (the global batch)."""
    accumulate: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Batches whose gradients are added up for one step: as a batch so many times larger, in the
    memory of one."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Seed of the split, the order, the augmentation, the initial weights and dropout."""
    deterministic: bool = False
    """True makes every op deterministic; stateful random ops are then an error."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """What convolutions and matrix products compute in: `mixed_float16` (on GPUs, with dynamic loss
    scaling) or `mixed_bfloat16` (on CPUs). Weights, the head's last layer and the loss stay
    float32."""
    optimizer: Optimizer = new(Optimizer)
    """How gradients change the weights."""
    schedule: Schedule = new(Schedule)
    """The learning rate over each phase."""
    scale_learning_rate: Literal["none", "linear", "sqrt"] = "none"
    """Multiply learning rates by the number of replicas, or by its square root."""
    early_stopping: EarlyStopping | None = None
    """When to end a phase early; null never does."""
    ema: Ema | None = None
    """Moving average of the weights; null for none."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the target spread evenly over the classes (0 to 1)."""
    nan: Literal["halt", "skip", "rollback"] = "halt"
    """At a loss or gradient that is not finite: stop (`halt`), `skip` the step (100 in a row at
    most), or go back to the last checkpoint and on with half the learning rates (`rollback`, 5
    times at most without getting past that step)."""
    feature_cache: FeatureCacheChoice = "auto"
    """Compute features of a frozen backbone once: `auto` where that changes nothing and pays (it
    stores them as float32), `off`, or `{copies: N, dtype: float16}`."""
    jit_compile: bool = False
    """Compile the forward and the backward pass with XLA; with float32 only, and not of texts."""
    strategy: (
        Literal["feature_extraction", "fine_tune", "multi_step", "full", "progressive_resize"]
        | None
    ) = None
    """A named list of phases, written instead of `training.phases`, which `harness plan` shows:
    `feature_extraction` (the head alone), `fine_tune` (the head, then the last half of the
    backbone), `multi_step` (in four steps, with falling rates), `full` (all at once) or
    `progressive_resize` (pictures of half, three quarters and all of `data.image_size`)."""
    phases: Many[Phase] = Field(default_factory=_feature_extraction)
    """Phases in order; the default is the strategy feature_extraction."""
    callbacks: Many[PluginRef] = ()
    """Plug-ins of kind callback (Keras callbacks), called in this order."""
    metrics: Many[PluginRef] = ()
    """Plug-ins of kind metric, computed beside the task's own."""

    def checks(self) -> Iterator[Complaint]:
        if self.jit_compile and self.precision != "float32":
            yield Complaint(
                "jit_compile",
                "what XLA compiles is not rewritten to 16 bits",
                f"true with {self.precision}",
                "false, or true with float32",
                "choose one of training.jit_compile and training.precision",
            )
        if not self.phases:
            yield Complaint("phases", "must not be empty", "[]", "one or more phases")
        elif self.phases[0].start_from == "best":
            allowed = "last, in the first phase"
            yield Complaint("phases.0.start_from", "no weights are best before it", "best", allowed)
        seen: set[str] = set()
        for position, phase in enumerate(self.phases):
            if phase.name in seen:
                what = "another phase has this name"
                yield Complaint(f"phases.{position}.name", what, show(phase.name), action="rename")
            seen.add(phase.name)
