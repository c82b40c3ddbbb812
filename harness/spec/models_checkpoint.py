"""The part of the spec about checkpoints."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.spec.base import Every, EveryTime, MetricName, SpecModel, new
from harness.spec.duration import Duration


class Best(SpecModel):
    """What makes a checkpoint the best one."""

    metric: MetricName = "val_accuracy"
    """The metric compared, once an epoch. Of a regression it is `val_loss` unless written, and
    without validation `loss`."""
    mode: Literal["auto", "min", "max"] = "auto"
    """Whether lower (min) or higher (max) is better; auto: losses and errors lower, else higher."""


class Checkpoint(SpecModel):
    """When training is saved and what is kept."""

    every: Every = Duration(600.0, "s")
    """Distance between checkpoints: a time, steps or epochs."""
    keep: Annotated[int, Field(ge=1, le=1000)] = 3
    """Newest checkpoints that are kept, beside the best one."""
    keep_every: EveryTime | None = None
    """Beside these, one checkpoint per such a time is kept for good, by the clock and over all
    attempts; null keeps none so."""
    best: Best = new(Best)
    """What makes a checkpoint the best one."""
