"""The interface of metric writers, and those that need no file."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "val", "test")


class MetricWriter(Protocol):
    """Where the figures of a run go.

    Every attempt calls :meth:`rollback` once before it writes, with the step it goes on from
    (0 for a start from nothing), and again where it goes back in its midst.  Every method raises
    StorageError if the disk is full, the quota used up or the place not writable; nothing is lost
    in silence.
    """

    def scalars(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        split: str,
        epoch: int,
        phase: str,
        epoch_end: bool | None = None,
    ) -> None:
        """Writes figures of one moment.

        Args:
            step: optimizer updates done, >= 0.
            values: by plain name (``loss``, not ``val_loss``); may be NaN or infinite.
            split: one of ``train``, ``val``, ``test``.
            epoch: the epoch that the step belongs to, from 0, counted over all phases.
            phase: name of the phase.
            epoch_end: the values are of a whole epoch, not of the last few steps.  None means
                yes for ``val`` and ``test``, no for ``train``.
        """

    def images(self, step: int, tag: str, images: np.ndarray, *, split: str) -> None:
        """Writes pictures, uint8 [N, H, W, 3].  A writer without pictures leaves them out."""

    def text(self, tag: str, text: str) -> None:
        """Writes a text (Markdown).  A writer without texts leaves it out."""

    def rollback(self, step: int) -> None:
        """Training goes on from ``step``.

        What was written of later steps is no longer valid, nor are the figures of a test, which
        the end of training repeats.
        """

    def flush(self) -> None:
        """Waits until all is on disk."""

    def close(self) -> None:
        """Flushes and closes; twice is fine."""


def check_step(step: int) -> int:
    """``step`` as int.  Raises TypeError if it is no integer, ValueError below 0."""
    step = operator.index(step)
    if step < 0:
        raise ValueError(f"step must be >= 0, was {step}")
    return step


def check_split(split: str) -> str:
    """``split`` itself.  Raises ValueError if it is none of :data:`SPLITS`."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, was {split!r}")
    return split


def check_images(images: np.ndarray) -> np.ndarray:
    """``images`` itself.  Raises ValueError unless it is uint8 [N, H, W, 3], none empty."""
    if images.dtype.name != "uint8" or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"images must be uint8 [N, H, W, 3], were {images.dtype} {list(images.shape)}"
        )
    if 0 in images.shape[1:3]:
        raise ValueError(f"images must not be empty, were {list(images.shape)}")
    return images


def of_epoch(split: str, epoch_end: bool | None) -> bool:
    """Whether values are of a whole epoch; see :meth:`MetricWriter.scalars`."""
    return split != "train" if epoch_end is None else epoch_end


class MultiWriter:
    """Hands everything to several writers, in order.

    Each writer gets its call even if one before it raised; the first error is raised after.

    Args:
        allowed: called before; what it raises keeps all of them from writing.
    """

    def __init__(
        self, writers: Sequence[MetricWriter], allowed: Callable[[], None] = lambda: None
    ) -> None:
        self.writers = tuple(writers)
        self._allowed = allowed

    def scalars(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        split: str,
        epoch: int,
        phase: str,
        epoch_end: bool | None = None,
    ) -> None:
        """See :class:`MetricWriter`."""
        self._each(
            lambda writer: writer.scalars(
                step, values, split=split, epoch=epoch, phase=phase, epoch_end=epoch_end
            )
        )

    def images(self, step: int, tag: str, images: np.ndarray, *, split: str) -> None:
        """See :class:`MetricWriter`."""
        self._each(lambda writer: writer.images(step, tag, images, split=split))

    def text(self, tag: str, text: str) -> None:
        """See :class:`MetricWriter`."""
        self._each(lambda writer: writer.text(tag, text))

    def rollback(self, step: int) -> None:
        """See :class:`MetricWriter`."""
        self._each(lambda writer: writer.rollback(step))

    def flush(self) -> None:
        """See :class:`MetricWriter`."""
        self._each(lambda writer: writer.flush())

    def close(self) -> None:
        """See :class:`MetricWriter`."""
        self._of_each(lambda writer: writer.close())

    def _each(self, call: Callable[[MetricWriter], None]) -> None:
        self._allowed()
        self._of_each(call)

    def _of_each(self, call: Callable[[MetricWriter], None]) -> None:
        errors: list[Exception] = []
        for writer in self.writers:
            try:
                call(writer)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


@dataclass(frozen=True)
class ScalarRecord:
    """One call of ``scalars``."""

    step: int
    values: dict[str, float]
    split: str
    epoch: int
    phase: str
    epoch_end: bool


@dataclass
class MemoryWriter:
    """Keeps everything in lists; for tests and for use from Python."""

    records: list[ScalarRecord] = field(default_factory=list)
    pictures: list[tuple[int, str, np.ndarray, str]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    flushed: int = 0
    closed: bool = False

    def scalars(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        split: str,
        epoch: int,
        phase: str,
        epoch_end: bool | None = None,
    ) -> None:
        """See :class:`MetricWriter`."""
        kept = {name: float(value) for name, value in values.items()}
        whole = of_epoch(check_split(split), epoch_end)
        self.records.append(ScalarRecord(check_step(step), kept, split, epoch, phase, whole))

    def images(self, step: int, tag: str, images: np.ndarray, *, split: str) -> None:
        """See :class:`MetricWriter`."""
        self.pictures.append((check_step(step), tag, check_images(images), check_split(split)))

    def text(self, tag: str, text: str) -> None:
        """See :class:`MetricWriter`."""
        self.texts.append((tag, text))

    def rollback(self, step: int) -> None:
        """See :class:`MetricWriter`."""
        self.records = [
            record for record in self.records if record.step <= step and record.split != "test"
        ]
        self.pictures = [picture for picture in self.pictures if picture[0] <= step]

    def flush(self) -> None:
        """See :class:`MetricWriter`."""
        self.flushed += 1

    def close(self) -> None:
        """See :class:`MetricWriter`."""
        self.closed = True

    def curve(self, name: str, *, split: str = "train") -> list[tuple[int, float]]:
        """(step, value) of one metric of one split, in the order written."""
        return [
            (record.step, record.values[name])
            for record in self.records
            if record.split == split and name in record.values
        ]
