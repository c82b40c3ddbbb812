"""What a multi-label task or a regression learns of a record.  Free of TensorFlow.

Labels stand in a list (names, or numbers of classes) or in cells: numbers side by side, in one
feature or in one for each.  The targets of a regression are cells too.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.data.multilabel import UNKNOWN, signs_of, state_of, taken
from harness.data.record_files import RecordOptions
from harness.data.record_seen import BETWEEN, LOST, Scanned
from harness.data.regression import LARGEST, Values
from harness.data.scan import listed
from harness.data.wire import (
    BYTES,
    INTS,
    KINDS,
    Feature,
    Held,
    all_bytes,
    first_bytes,
    numbers,
)
from harness.errors import DataError


class Odd(Exception):
    """A feature does not hold what it should: what, what it holds, and what it may hold."""


def labels_listed(held: Held, there: Mapping[str, Feature], name: str) -> list[int | str] | None:
    """The labels that a feature lists, each once; None where there is no such feature.

    Raises:
        Odd: it holds something else.
        NoExample: its bytes are none of a list.
    """
    feature = there.get(name)
    if feature is None:
        return None
    if feature.start == feature.end:  # whatever its kind
        return []
    if feature.kind == INTS:
        return sorted({int(value) for value in numbers(held, feature)})
    wanted = "names as bytes, or whole numbers"
    if feature.kind != BYTES:
        raise Odd(f"has a feature {name!r} that cannot be used", KINDS[feature.kind], wanted)
    found = set()
    for raw in all_bytes(held, feature):
        try:
            found.add(raw.decode())
        except UnicodeDecodeError:
            raise Odd(f"has a label in {name!r} that is no UTF-8", repr(raw[:40]), wanted) from None
    wrong = next((label for label in found if not label or BETWEEN in label), None)
    if wrong is not None:
        raise Odd(f"has a label in {name!r} that cannot be used", repr(wrong), "a name")
    return sorted(found)


def single_value(held: Held, feature: Feature, name: str, wanted: str) -> int | str | None:
    """The one name or whole number of a feature; None where it is empty.

    Args:
        wanted: what a message says it may hold.

    Raises:
        Odd, NoExample: as :func:`labels_listed`.
    """
    if feature.kind == BYTES:
        raw = first_bytes(held, feature)
        if raw is None:
            return None
        try:
            return raw.decode()
        except UnicodeDecodeError:
            got = repr(raw[:40])
    elif feature.kind == INTS:
        values = numbers(held, feature)
        if len(values) == 1:
            return int(values[0])
        got = f"{len(values)} numbers"
    else:
        got = KINDS[feature.kind]
    raise Odd(f"has a feature {name!r} that cannot be used", got, wanted)


def weight_in(held: Held, there: Mapping[str, Feature], name: str) -> float | None:
    """The weight of an example; None where it is missing: no feature, an empty one, or NaN.

    Raises:
        Odd, NoExample: as :func:`labels_listed`.
    """
    feature = there.get(name)
    if feature is None or feature.start == feature.end:
        return None
    values = [] if feature.kind == BYTES else numbers(held, feature).tolist()
    if len(values) == 1 and math.isnan(values[0]):
        return None
    if len(values) == 1 and 0 <= values[0] < math.inf:
        return float(values[0])
    got = f"{values[0]:g}" if len(values) == 1 else KINDS[feature.kind]
    raise Odd(f"has no weight as feature {name!r}", got, "one number from 0 on")


def states_in_cells(held: Held, there: Mapping[str, Feature], options: RecordOptions) -> str | None:
    """The states of the labels of a record; None where none of them is known.

    Raises:
        Odd, NoExample: as :func:`labels_listed`.
    """
    value, as_ = options.uncertain or (None, "ignore")
    allowed = "0 or 1" if value is None else f"0, 1 or {value}"
    signs = []
    for name, cell in _cells(held, there, options):
        sign = UNKNOWN if math.isnan(cell) else state_of(repr(cell), value)
        if sign is None:
            raise Odd(
                f"has a label {name!r} that is neither present nor absent", repr(cell), allowed
            )
        signs.append(sign)
    states = "".join(signs)
    return None if set(taken(states, as_)) == {UNKNOWN} else states


def values_in_cells(
    held: Held, there: Mapping[str, Feature], options: RecordOptions
) -> tuple[float, ...] | None:
    """The targets of a record, nan where not known; None where none of them is.

    Raises:
        Odd, NoExample: as :func:`labels_listed`.
    """
    found = []
    for name, cell in _cells(held, there, options):
        if abs(cell) > LARGEST:
            raise Odd(f"has a target {name!r} that is no number", repr(cell), "a finite number")
        found.append(cell)
    return None if all(map(math.isnan, found)) else tuple(found)


def _cells(
    held: Held, there: Mapping[str, Feature], options: RecordOptions
) -> Iterator[tuple[str, float]]:
    """(name, number, nan where there is none) of each label or target."""
    names, found = options.targets, []
    if options.labels:
        for name in options.labels:
            found += _numbers(held, there, name, 1)
    else:
        found = _numbers(held, there, options.label, len(names))
    for name, cell in zip(names, found, strict=True):
        if math.isnan(cell) and options.missing_label == "error":
            what = f"has no value of {name!r}"
            raise Odd(what, "none", "one, or data.missing.label: drop")
        yield name, cell


def _numbers(held: Held, there: Mapping[str, Feature], name: str, width: int) -> list[float]:
    feature = there.get(name)
    if feature is None or feature.start == feature.end:
        return [math.nan] * width
    wanted = "one number" if width == 1 else f"{width} numbers"
    what = f"has a feature {name!r} that cannot be used"
    if feature.kind == BYTES:
        raise Odd(what, KINDS[BYTES], wanted)
    found = numbers(held, feature)
    if len(found) != width:
        raise Odd(what, f"{len(found)} numbers", wanted)
    return [float(one) for one in found]


class Targets(NamedTuple):
    """The fields of an index that say what is learned where that is no class."""

    targets: Sequence[str] = ()
    states: Sequence[str] = ()
    values: Values | None = None


def targets_of_scanned(
    scanned: Sequence[Scanned], options: RecordOptions, classes: Sequence[str]
) -> Targets:
    """What was seen of some files, file by file."""
    if options.learned == "numbers":
        values = array("d")
        for one in scanned:
            values.extend(one.values)
        return Targets(values=Values(values, len(classes)))
    if options.learned != "labels":
        return Targets()
    targets: list[str] = []
    states: list[str] = []
    nothing = UNKNOWN * len(classes)
    for one in scanned:
        held = one.label_names
        if not options.in_cells:
            held = [signs_of(name.split(BETWEEN) if name else (), classes) for name in held]
        # A record that cannot be read has no known label; it is never trained on.
        states += [held[code] if code != LOST else nothing for code in one.labels]
    if options.uncertain is None:
        return Targets(states)
    as_ = options.uncertain[1]
    known = {one: taken(one, as_) for one in set(states)}
    targets = [known[one] for one in states]
    return Targets(targets, states)


def refuse_other_names(what: str, options: RecordOptions, classes: Sequence[str] | None) -> None:
    """Holds that records are read for the labels or numbers of the training data.

    Args:
        classes: names of these; None where it is the training data itself.

    Raises:
        DataError: the spec names others, or another order.
    """
    names = options.targets
    if not names or classes is None or tuple(classes) == names or options.learned == "class":
        return
    raise DataError(
        f"{what} is read for other {options.many} than those of the training data",
        got=listed(list(names)),
        allowed=f"{listed(list(classes))}, in this order",
        action=f"name these in {options.field}",
        path=options.field,
    )
