"""What goes into the store and what comes out: plain values in host memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoint.hoststate import Json

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Snapshot:
    """Everything of one moment, in host memory; nobody changes it while it is written."""

    step: int
    tensors: Mapping[str, np.ndarray]
    state: dict[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    keep_steps: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that a restore passed over, and why."""

    step: int
    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path.name} skipped: {self.reason}"


@dataclass(frozen=True)
class Restored:
    """A verified checkpoint in host memory.  ``skipped`` are newer ones that did not verify."""

    step: int
    path: Path
    tensors: dict[str, np.ndarray]
    state: dict[str, Json]
    metrics: dict[str, float]
    skipped: tuple[Skipped, ...] = ()
