"""Validation examples out of the training examples.  Free of TensorFlow."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from harness.data.index import ExampleIndex
from harness.errors import DataError, SpecError


def split_validation(
    index: ExampleIndex, fraction: float, seed: int
) -> tuple[ExampleIndex, ExampleIndex]:
    """Splits into (train, validation), class by class.

    An example is a validation example when its draw, a hash of (seed, relative name), is below
    ``fraction``.  So adding or removing others never moves it, and the share of a class is
    ``fraction`` on average, not exactly.  One exception keeps each class on both sides: where
    all draws of a class fall on one side, its smallest goes to validation, or its largest stays
    in training.  A class of one example stays in training, which ``notes`` of the second says.

    Raises:
        SpecError: ``fraction`` is not between 0 and 1.
        DataError: no class has two examples, so validation would be empty.
    """
    if not 0 < fraction < 1:
        raise SpecError(
            "the validation fraction must lie between 0 and 1",
            got=str(fraction),
            path="data.validation.fraction",
        )
    rows_of: list[list[int]] = [[] for _ in index.classes]
    for row, label in enumerate(index.labels):
        rows_of[label].append(row)
    validation, notes = [], []
    for name, rows in zip(index.classes, rows_of, strict=True):
        if len(rows) > 1:
            validation += _below(rows, [_draw(seed, index.names[row]) for row in rows], fraction)
        elif rows:
            notes.append(f"class {name!r} has one example: it stays in training, not in validation")
    if not validation:
        raise DataError(
            "no class has the two examples that a split needs",
            action="add examples, give data.validation a path of its own, or set it to null",
            path="data.validation",
        )
    validation.sort()
    held = set(validation)
    train = [row for row in range(len(index)) if row not in held]
    return index.subset(train, index.notes), index.subset(validation, tuple(notes))


def _below(rows: Sequence[int], draws: Sequence[float], fraction: float) -> list[int]:
    """The rows whose draw is below ``fraction``: at least one, at most all but one."""
    ranked = sorted(zip(draws, rows, strict=True))
    count = sum(draw < fraction for draw in draws)
    return [row for _, row in ranked[: min(max(count, 1), len(rows) - 1)]]


def _draw(seed: int, name: str) -> float:
    """Uniform in [0, 1), from the first 53 bits of a BLAKE2b hash."""
    digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8, person=b"harness.split")
    return (int.from_bytes(digest.digest(), "big") >> 11) / (1 << 53)
