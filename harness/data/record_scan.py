"""Walks through one TFRecord file, and reads of each record what an index holds.

Free of TensorFlow.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from harness.data.frames import FRAME, HEAD, Broken, frames, is_whole, refuse_compressed
from harness.data.record_files import RecordOptions
from harness.data.record_seen import BETWEEN, LOST, Scanned
from harness.data.record_targets import (
    Odd,
    labels_listed,
    single_value,
    states_in_cells,
    values_in_cells,
    weight_in,
)
from harness.data.wire import (
    BYTES,
    KINDS,
    Feature,
    NoExample,
    Sparse,
    features,
)
from harness.errors import DataError, Problem

Read = TypeVar("Read")
_KEEP = 6
_NO_ACTION = "write the records again, or remove this one"


class Wrong(Exception):
    """A record does not hold what it should."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def scan_file(root: Path, name: str, options: RecordOptions, *, labels: bool = True) -> Scanned:
    """Looks at all records of a file; what is wrong with them is collected, not raised.

    Args:
        labels: look into the records; else only where they stand.

    Raises:
        DataError: it cannot be read, is compressed, or is no TFRecord file.
    """
    path = root / name
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DataError(f"{path} cannot be read", got=error.strerror) from error
    try:
        facts = os.fstat(file)
        refuse_compressed(path, file)
        found = Scanned(name, facts.st_size, facts.st_mtime_ns)
        _Scan(path, file, found, options, labels).all_records()
        return found
    except OSError as error:
        raise DataError(f"{path} cannot be read", got=error.strerror) from error
    finally:
        os.close(file)


class _Scan:
    def __init__(
        self, path: Path, file: int, found: Scanned, options: RecordOptions, labels: bool
    ) -> None:
        self._labels = labels
        self._path, self._file, self._found, self._options = path, file, found, options
        self._held = Sparse(file)
        self._codes: dict[int | str | tuple[int | str, ...], int] = {}
        self._now = (0, 0)
        self._values: tuple[float, ...] = ()
        self._least, self._most = math.inf, -math.inf

    def all_records(self) -> None:
        found, number = self._found, -1
        try:
            for number, (at, size) in enumerate(frames(self._held, found.bytes)):
                found.records += 1
                if self._labels:
                    self._record(number, at, size)
                else:
                    self._add(number, at, size, LOST, 1.0, "")
                if len(found.problems) >= _KEEP:
                    return
        except Broken as error:
            found.broken = f"at byte {error.at} of {found.bytes}: {error}"
            mean = error.at / (number + 1) if number >= 0 else FRAME
            found.lost = max(1, math.ceil((found.bytes - error.at) / mean))
            found.faults[len(found)] = str(error)
            self._add(number + 1, error.at, 0, LOST, 1.0, "")

    def _record(self, number: int, at: int, size: int) -> None:
        found, self._now = self._found, (at, size)
        try:
            there = features(self._held, at + HEAD, at + HEAD + size)
            if not found.there:
                found.there = (
                    ", ".join(f"{name} ({KINDS[one.kind]})" for name, one in sorted(there.items()))
                    or "none"
                )
            label = self._learned(there, number)
            missing = "label" if label is None else None
            if not self._has_example(there, number):
                missing = "file"
            weight = self._weight(there, number) if missing is None else None
            group = self._group(there, number) if weight is not None else None
            if missing is None and group is None:
                missing = "weight" if weight is None else "group"
            if missing is not None and self._is_whole(at, size):
                self._missing(missing, number)
                return
            if label is None or weight is None or group is None:
                raise NoExample  # a damaged record may lack anything
        except NoExample:
            label, weight, group = LOST, 1.0, ""
        except Wrong as wrong:
            # It may say anything too; then it is one that cannot be read.
            if self._is_whole(at, size):
                found.problems.append(wrong.problem)
                return
            label, weight, group = LOST, 1.0, ""
        self._add(number, at, size, label, weight, group)

    def _is_whole(self, at: int, size: int) -> bool:
        return is_whole(os.pread(self._file, size + FRAME, at))

    def _add(self, number: int, at: int, size: int, label: int, weight: float, group: str) -> None:
        found, options = self._found, self._options
        if options.learned == "numbers" and self._labels:
            lost = (math.nan,) * len(options.targets)
            found.values.extend(self._values if label != LOST else lost)
        found.starts.append(at)
        found.sizes.append(size)
        found.numbers.append(number)
        found.labels.append(label)
        if options.weight is not None:
            found.weights.append(weight)
        if options.group is not None:
            # A group of its own: nothing else is known to belong to it.
            found.groups.append(group if label != LOST else f"\0{found.file}#{number}")

    def _missing(self, what: str, number: int) -> None:
        options = self._options
        # Of cells what may be missing was looked at; without any that is known nothing is learned.
        field = what if what in ("label", "file") else "field"
        if getattr(options, f"missing_{field}") == "drop" or (what == "label" and options.in_cells):
            self._found.missing[f"{what}_dropped"] += 1
            return
        name = options.example if what == "file" else getattr(options, what)
        self._found.problems.append(
            self._problem(
                number,
                f"has no feature {name!r}, or an empty one",
                f"the features {self._found.there}",
                f"the names that {options.field} gives, in each record",
                f"correct {options.field}, or set data.missing.{field} to drop",
            )
        )

    def _has_example(self, there: Mapping[str, Feature], number: int) -> bool:
        options = self._options
        feature = there.get(options.example or "")
        if feature is None or feature.start == feature.end:
            return False
        if feature.kind != BYTES and options.rate_hz is None:
            raise Wrong(
                self._problem(
                    number,
                    f"has another kind of feature {options.example!r}",
                    KINDS[feature.kind],
                    f"bytes, as a {options.medium.one} is",
                    f"name the feature that is meant in {options.field}",
                )
            )
        return True

    def _learned(self, there: Mapping[str, Feature], number: int) -> int | None:
        """The code of what is learned; None where there is nothing."""
        options, held = self._options, self._held
        if options.learned == "class":
            return self._label(there, number)
        if options.learned == "numbers":
            return self._numbers(
                self._held_to(number, lambda: values_in_cells(held, there, options))
            )
        if options.in_cells:
            states = self._held_to(number, lambda: states_in_cells(held, there, options))
            return self._code(states, [], states) if states is not None else None
        labels = self._held_to(number, lambda: labels_listed(held, there, options.label))
        if labels is None:
            return None
        names = sorted(
            one if isinstance(one, str) else self._name_of(one, number) for one in labels
        )
        return self._code(tuple(labels), labels, BETWEEN.join(names))

    def _numbers(self, values: tuple[float, ...] | None) -> int | None:
        if values is None:
            return None
        known = [value for value in values if not math.isnan(value)]
        # One number that damage has made huge would spoil the scaling of all.
        if min(known) < self._least or max(known) > self._most:
            if not self._is_whole(*self._now):
                raise NoExample
            self._least, self._most = min(self._least, *known), max(self._most, *known)
        self._values = values
        return 0

    def _label(self, there: Mapping[str, Feature], number: int) -> int | None:
        """Its code; None where there is none."""
        options = self._options
        feature = there.get(options.label)
        if feature is None or feature.start == feature.end:
            return None
        value = self._value(feature, number, options.label, "a name as bytes, or a whole number")
        if value is None or value == options.unlabelled:
            return None
        if value in self._codes:
            return self._codes[value]
        return self._code(value, value, self._name_of(value, number))

    def _code(
        self, key: int | str | tuple[int | str, ...], label: int | str | list[int | str], name: str
    ) -> int:
        """The code of a label, which may be a new one."""
        if key in self._codes:
            return self._codes[key]
        if not self._is_whole(*self._now):
            raise NoExample  # what is damaged is no class of its own
        code = self._codes[key] = len(self._codes)
        self._found.labels_there.append(label)
        self._found.label_names.append(name)
        return code

    def _name_of(self, value: int | str, number: int) -> str:
        options = self._options
        if isinstance(value, str):
            return value
        most = len(options.names) - 1 if options.names else (1 << 63) - 1
        if 0 <= value <= most:
            return options.names[value] if options.names else str(value)
        raise Wrong(
            self._problem(
                number,
                "has a label that is out of range",
                str(value),
                f"0 to {most}, as {options.field} names {most + 1} classes"
                if options.names
                else "a number from 0 on",
                f"correct the label, or the names in {options.field}",
            )
        )

    def _value(self, feature: Feature, number: int, name: str, wanted: str) -> int | str | None:
        return self._held_to(number, lambda: single_value(self._held, feature, name, wanted))

    def _weight(self, there: Mapping[str, Feature], number: int) -> float | None:
        """Nan where something else stands for a missing one; None where nothing does."""
        name = self._options.weight
        if name is None:
            return 1.0
        weight = self._held_to(number, lambda: weight_in(self._held, there, name))
        if weight is None and self._options.missing_field.startswith("impute"):
            return math.nan
        return weight

    def _group(self, there: Mapping[str, Feature], number: int) -> str | None:
        """None where it is missing, as an empty name is."""
        name = self._options.group
        if name is None:
            return ""
        feature = there.get(name)
        if feature is None or feature.start == feature.end:
            return None
        value = self._value(feature, number, name, "bytes in UTF-8, or a whole number")
        return None if value is None else str(value) or None

    def _held_to(self, number: int, read: Callable[[], Read]) -> Read:
        """What a record holds; what is odd about that is a problem of the record."""
        try:
            return read()
        except Odd as odd:
            what, got, allowed = odd.args
            raise Wrong(self._problem(number, what, got, allowed, _NO_ACTION)) from None

    def _problem(self, number: int, what: str, got: str, allowed: str, action: str) -> Problem:
        return Problem(f"{self._path}: record {number} {what}", got, allowed, action)
