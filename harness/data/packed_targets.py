"""What is learned of the examples of a packed set that have no class.  Free of TensorFlow.

``targets.bin`` holds states of labels or numbers in their own units; what a training makes of them
is a matter of its spec (``data.uncertain``) and of its training examples (the scaling).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.manifest_columns import ManifestOptions
from harness.data.media import medium_of
from harness.data.multilabel import As, numbers_as_taken
from harness.data.packed import PackedIndex
from harness.data.packed_entries import EntryRows
from harness.data.packed_facts import TARGETS, LabelFacts
from harness.data.regression import Numbers, Scaling
from harness.data.scan import listed
from harness.data.selection import Positions, Selection
from harness.errors import DataError
from harness.spec.models_model import Learned

_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class Targets:
    """How the targets of a set are taken.

    Attributes:
        columns: those of the set, in the order of the training's classes.
        as_: of several labels: what uncertain ones are taken as; None of numbers.
        scaling: of numbers: how they are standardised; None as long as that is not known.
    """

    columns: tuple[int, ...]
    as_: As | None = None
    scaling: Scaling | None = None

    def taken(self, entries: NDArray[Any]) -> NDArray[np.float32]:
        """What stands in ``targets.bin`` [n, width], as a training takes it: float32 [n, classes].

        Labels are 1, 0, or -1 where not known; numbers are standardised, nan where not known.
        """
        chosen = entries[:, self.columns]
        if self.as_ is not None:
            return numbers_as_taken(chosen, self.as_)
        assert self.scaling is not None, "who opens the data sets gives the scaling of training"
        return self.scaling.standardised(chosen)

    def known(self, entries: NDArray[Any]) -> NDArray[np.int64]:
        """For each class how many examples surely have it."""
        chosen = entries[:, self.columns]
        is_known = ~np.isnan(chosen) if self.as_ is None else numbers_as_taken(chosen, self.as_) > 0
        return np.count_nonzero(is_known, axis=0)

    def usable(self, taken: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Of which examples anything is known [n], by what :meth:`taken` gave."""
        is_known = taken >= 0 if self.as_ is not None else ~np.isnan(taken)
        return np.logical_or.reduce(is_known, axis=1)


def chunks(packed: PackedIndex, some: Selection) -> Iterator[NDArray[Any]]:
    """The entries of ``targets.bin`` of a part of a set, in its order.

    Raises:
        DataError: the file is not whole.
    """
    # A multiple of 8, as a selection asks for.
    rows = 8 * max(1, _CHUNK_BYTES // (8 * np.dtype(packed.kinds[TARGETS]).itemsize))
    for start in range(0, len(packed), rows):
        count = min(rows, len(packed) - start)
        yield packed.entries(TARGETS, start, count)[some.holds(start, count)]


def spread(packed: PackedIndex, some: Selection, columns: Sequence[int]) -> list[Numbers]:
    """What is known of the targets of a part of a set of numbers; reads them twice.

    Raises:
        DataError: ``targets.bin`` is not whole.
    """
    if some.is_all:
        return [packed.spread[column] for column in columns]

    def pieces() -> Iterator[list[list[float]]]:
        for entries in chunks(packed, some):
            values = (entries[:, column] for column in columns)
            yield [one[~np.isnan(one)].tolist() for one in values]

    return Numbers.of_pieces(pieces, len(columns))


class TargetRows:
    """Looks up the targets of single examples, whose neighbours are asked for soon after.

    Args:
        targets: how they are taken.
    """

    def __init__(self, packed: PackedIndex, targets: Targets) -> None:
        self._targets, self._entries = targets, EntryRows(packed, TARGETS)

    def at(self, positions: Positions) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What is learned of examples, and of which of them anything is known.

        Args:
            positions: canonical, in any order, with repeats.

        Raises:
            DataError: ``targets.bin`` is not whole.
        """
        taken = self._targets.taken(self._entries.at(positions))
        return taken, self._targets.usable(taken)


_HOLDS: dict[Learned, tuple[str, str, str]] = {
    "class": ("one class for each example", "classes", "classification"),
    "labels": ("several labels for each example", "labels", "multilabel"),
    "numbers": ("numbers for each example", "targets", "regression"),
}
"""In words what sets hold, what their names are, and which task learns it."""


def refuse_other(packed: PackedIndex, wanted: Learned) -> None:
    """Holds that a set has what a task learns.

    Raises:
        DataError: it has something else; names it.
    """
    if packed.learned == wanted:
        return
    words, names, task = _HOLDS[packed.learned]
    held = f"the {names} {listed(list(packed.classes))}"
    raise DataError(
        f"{packed.root} is a packed set of {words}",
        got=f"{held}, and a task that learns {_HOLDS[wanted][0]}",
        allowed=f"a set of {_HOLDS[wanted][0]}",
        action=f"pack the data by the spec of this task, or set task: {packed.medium}_{task}",
        path="task",
    )


def refuse_other_medium(packed: PackedIndex, wanted: str) -> None:
    """Holds that a set has examples of a task's medium.

    Raises:
        DataError: it has others.
    """
    held = packed.medium
    if held != wanted:
        raise DataError(
            f"{packed.root} is a packed set of {medium_of(held).many}",
            got=f"a task of {medium_of(wanted).many}",
            allowed=f"a set that was packed with --medium {wanted}",
            action=f"name another set, or set task to one of {medium_of(held).many} ({held}_...)",
        )


class Opened(NamedTuple):
    """The targets of a whole set, how many examples surely have each, and what is worth saying."""

    targets: Targets
    classes: tuple[str, ...]
    by_class: tuple[int, ...]
    notes: tuple[str, ...]


def open_targets(
    packed: PackedIndex, classes: Sequence[str] | None, options: ManifestOptions | None
) -> Opened:
    """How the targets of a set are taken.

    Args:
        classes: those of the training data; None where this is them.
        options: what a spec says; None where there is none: then they are taken as the set says.

    Raises:
        DataError: the set has other labels or numbers than the spec or the training data, or
            uncertain labels that the spec does not explain.
    """
    columns = _columns(packed, classes, options)
    names = tuple(packed.classes[column] for column in columns)
    facts = packed.labels
    if facts is None:
        known = [packed.spread[column].known for column in columns]
        notes = [*_lacking(packed, names, known)]
        return Opened(Targets(columns), names, tuple(known), tuple(notes))
    as_ = _uncertain_as(packed, facts, options)
    states = [facts.states[column] for column in columns]
    known = [one[1] + (one[-1] if as_ == "one" else 0) for one in states]
    notes = [*_label_notes(packed, facts, as_)]
    notes += _lacking(packed, names, known) if classes is not None else ()
    return Opened(Targets(columns, as_), names, tuple(known), tuple(notes))


def _columns(
    packed: PackedIndex, classes: Sequence[str] | None, options: ManifestOptions | None
) -> tuple[int, ...]:
    """The columns of a set in the order in which they are learned."""
    named = options.beside(packed.classes).targets if options is not None else ()
    for wanted, whose in ((named, "the spec names"), (classes or (), "the training data has")):
        if wanted and sorted(wanted) != sorted(packed.classes):
            names = _HOLDS[packed.learned][1]
            raise DataError(
                f"{packed.root} is a packed set of other {names}",
                got=listed(list(packed.classes)),
                allowed=f"those that {whose}: {listed(list(wanted))}",
                action="pack the data by a spec that names these columns",
                path="data.columns",
            )
    order = classes or named or packed.classes
    return tuple(map(packed.classes.index, order))


def _uncertain_as(packed: PackedIndex, facts: LabelFacts, options: ManifestOptions | None) -> As:
    """What uncertain labels are taken as: as the spec says, or without one as it was packed."""
    if options is None:
        return facts.as_
    value, as_ = options.uncertain or (None, "ignore")
    if facts.uncertain and value != facts.value:
        given = "data.uncertain: null" if value is None else f"data.uncertain.value: {value}"
        raise DataError(
            f"{packed.root} has {facts.uncertain} labels that are neither present nor absent",
            got=given,
            allowed=f"the value that means uncertain there, {facts.value}",
            action=f"write data.uncertain: {{value: {facts.value}, as: ignore}} (or zero, or one)",
            path="data.uncertain",
        )
    return as_


def _label_notes(packed: PackedIndex, facts: LabelFacts, as_: As) -> Iterator[str]:
    """Where uncertain labels are taken otherwise than the set was packed."""
    left_out = packed.missing.get("label_dropped", 0)
    if as_ == "ignore" and facts.unsure:
        yield (
            f"{packed.root}: {facts.unsure} examples are not used, as no label of them is known "
            "with data.uncertain.as: ignore"
        )
    if as_ != "ignore" and facts.as_ == "ignore" and facts.value is not None and left_out:
        yield (
            f"warning: {packed.root} was packed with data.uncertain.as: ignore, so {left_out} "
            f"examples of which no label was known then are not in it; pack with as: {as_} to "
            "have those with an uncertain label"
        )


def _lacking(packed: PackedIndex, names: Sequence[str], known: Sequence[int]) -> Iterator[str]:
    lacking = [name for name, count in zip(names, known, strict=True) if not count]
    if lacking:
        what, many = ("no value", "targets") if packed.spread else ("no examples", "labels")
        some = f"{len(lacking)} of {len(names)} {many}"
        yield f"{packed.root} has {what} of {some}: {listed(lacking)}"
