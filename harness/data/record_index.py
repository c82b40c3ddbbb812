"""Makes the index of TFRecord files: walks through them once, and reads what says the labels.

Of each record the length, the names of its features and the small ones that are wanted are read,
not the pictures between them.  Free of TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.data.record_files import RecordOptions, record_files
from harness.data.record_kept import kept_or_scanned
from harness.data.record_scan import scan_file
from harness.data.record_seen import LOST, Scanned
from harness.data.record_targets import refuse_other_names, targets_of_scanned
from harness.data.records import Names, RecordIndex, Table
from harness.data.scan import bad_names, listed, refuse
from harness.data.weights import impute
from harness.errors import DataError, Problem

_THREADS = 16


def record_index(
    path: str | Path,
    options: RecordOptions,
    classes: Sequence[str] | None = None,
    *,
    files: Sequence[str] | None = None,
    lengths: Sequence[int] | None = None,
    what: str | None = None,
) -> RecordIndex:
    """Indexes the examples of TFRecord files.

    Args:
        path: see :func:`harness.data.record_files.record_files`.
        classes: label names, of the training data; None takes those that are here.
        files: names of the files in the folder ``path``; None looks which there are.
        lengths: records of each file, where that is known.
        what: what messages call the data; None is the path.

    Raises:
        DataError: the files cannot be used; names what is wrong, of much the first.
    """
    ignored: dict[str, int] = {}
    root = Path(path)
    if files is None:
        root, files, ignored = record_files(path)
    what = what or str(path)
    refuse(bad_names(files))
    with ThreadPoolExecutor(_THREADS) as pool:
        scanned = kept_or_scanned(
            root, files, options, lambda name: scan_file(root, name, options), pool
        )
    refuse(problem for one in scanned for problem in one.problems)
    for one, records in zip(scanned, lengths or (), strict=lengths is not None):
        one.hold_to(records)
    if not sum(map(len, scanned)):
        raise _no_examples(what, scanned, options)
    _hold_to_the_limit(what, scanned, options)
    refuse_other_names(what, options, classes)
    known = tuple(classes) if classes is not None else _classes(scanned, options, what)
    _unknown(what, scanned, options, known)
    return _Maker(root, files, scanned, options, known).index(what, ignored, classes is not None)


def record_table(path: str | Path, options: RecordOptions) -> Table:
    """Where the records of TFRecord files stand; their labels are not looked at.

    Raises:
        DataError: the files cannot be used.
    """
    root, files, _ = record_files(path)
    with ThreadPoolExecutor(_THREADS) as pool:
        scanned = kept_or_scanned(
            root,
            files,
            options,
            lambda name: scan_file(root, name, options, labels=False),
            pool,
            labels=False,
        )
    if not sum(map(len, scanned)):
        raise DataError(f"{path} holds no records", allowed="a record for each example")
    return _table(root, files, scanned, options)


def _table(
    root: Path, files: Sequence[str], scanned: Sequence[Scanned], options: RecordOptions
) -> Table:
    starts, sizes, numbers = array("q"), array("q"), array("q")
    faults: dict[int, str] = {}
    for one in scanned:
        faults.update({len(starts) + row: why for row, why in one.faults.items()})
        starts.extend(one.starts)
        sizes.extend(one.sizes)
        numbers.extend(one.numbers)
    counts = [len(one) for one in scanned]
    return Table(root, files, counts, numbers, starts, sizes, faults, options)


def _no_examples(what: str, scanned: Sequence[Scanned], options: RecordOptions) -> DataError:
    missing = sum((one.missing for one in scanned), Counter[str]())
    there = next((one.there for one in scanned if one.there), "")
    if not there:
        return DataError(f"{what} holds no records", allowed="a record for each example")
    return DataError(
        f"{what} has no record with the feature {listed(options.label_features)} of a label"
        if missing["label_dropped"]
        else f"{what} has no record with the feature {options.example!r}",
        got=f"the features {there}",
        allowed=f"the names that {options.field} gives",
        action=f"name the feature that is meant in {options.field}",
    )


def _hold_to_the_limit(what: str, scanned: Sequence[Scanned], options: RecordOptions) -> None:
    lost = sum(one.lost for one in scanned)
    total = sum(map(len, scanned)) + lost
    if lost > math.ceil(options.limit * total * (1 - 1e-12)):
        broken = [f"{one.file} ({one.broken})" for one in scanned if one.broken]
        raise DataError(
            f"{what} has files that end early or are damaged: about {lost} examples are lost",
            got=", ".join(broken[:5]) + (f" and {len(broken) - 5} more" if broken[5:] else ""),
            allowed=f"{options.limit:.3%} of about {total} examples"
            if options.limit
            else "none (data.corrupt.policy is fail)",
            action="copy or write these files again, or raise data.corrupt.limit (policy: skip)",
            path="data.corrupt",
        )


def _classes(scanned: Sequence[Scanned], options: RecordOptions, what: str) -> tuple[str, ...]:
    if options.learned != "class" and options.targets:
        return options.targets
    if options.names:
        found = options.names
    else:
        held = {label for one in scanned for label in one.labels_used()}
        if len({type(label) for label in held}) > 1:
            raise DataError(f"{what} has labels of two kinds", got="names and numbers")
        found = tuple(map(str, sorted(held)))
    if len(found) < 2:
        kind = "class" if options.learned == "class" else "label"
        raise DataError(
            f"{what} has one {kind} only" if found else f"{what} has no {kind}",
            got=repr(found[0]) if found else "no record that can be read",
            allowed="two classes or more",
            action=f"check that {options.field}.label ({options.label}) is the right feature",
        )
    refuse(bad_names(found))
    return found


def _unknown(
    what: str, scanned: Sequence[Scanned], options: RecordOptions, known: Sequence[str]
) -> None:
    if options.in_cells:
        return
    used = {name for one in scanned for name in one.names_used(options.learned == "labels")}
    refuse(
        Problem(
            f"{what} has a label that is none of those that are learned"
            if options.learned == "labels"
            else f"{what} has a class that the training data does not have",
            got=repr(name),
            allowed=listed(list(known)),
            action="correct the labels, or add the class to the training data",
        )
        for name in sorted(used - set(known))
    )


class _Maker:
    """Brings together what was seen of each file."""

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        scanned: Sequence[Scanned],
        options: RecordOptions,
        classes: tuple[str, ...],
    ) -> None:
        self._root, self._files, self._scanned = root, files, scanned
        self._options, self._classes = options, classes

    def index(self, what: str, ignored: dict[str, int], named: bool) -> RecordIndex:
        labels, weights, groups = array("l"), array("d"), []
        is_class = self._options.learned == "class"
        targets = targets_of_scanned(self._scanned, self._options, self._classes)
        row_of = {name: row for row, name in enumerate(self._classes)}
        for one in self._scanned:
            # Of several labels or numbers none is the class: 0 for all.
            rows = [row_of.get(name, 0) for name in one.label_names] if is_class else [0]
            # A record that no label is known of is never trained on, so any will do.
            labels.extend(rows[code] if is_class and code != LOST else 0 for code in one.labels)
            weights.extend(one.weights)
            groups.extend(one.groups)
        fill, missing = self._impute(what, weights)
        table = _table(self._root, self._files, self._scanned, self._options)
        index = RecordIndex(
            root=self._root,
            names=Names(table, range(len(table))),
            labels=labels,
            classes=self._classes,
            sizes=table.sizes,
            digest="",
            ignored=ignored,
            weights=weights,
            groups=groups,
            missing=missing,
            table=table,
            weight_fill=fill,
            uncertain=self._options.uncertain,
            **targets._asdict(),
        )
        notes = tuple(self._notes(what, index, named))
        object.__setattr__(index, "digest", self._digest(index))
        object.__setattr__(index, "notes", notes)
        return index

    def _impute(self, what: str, weights: array[float]) -> tuple[float | None, dict[str, int]]:
        """Fills in missing weights: what they are taken as, and all that was missing, by kind."""
        options = self._options
        missing = sum((one.missing for one in self._scanned), Counter[str]())
        if options.weight is None:
            return None, dict(missing)
        sure = [code != LOST for one in self._scanned for code in one.labels]
        field = f"{options.field}.weight"
        policy, fill = options.missing_field, options.fill
        fill, imputed = impute(weights, sure, policy, fill, of=what, field=field)
        return fill, {**missing, **({"weight_imputed": imputed} if imputed else {})}

    def _digest(self, index: RecordIndex) -> str:
        """``records:`` and the SHA-256 over the files' names, sizes, times, and what was read."""
        options = self._options
        digest = hashlib.sha256(b"harness records 1\n")
        for one in self._scanned:
            digest.update(f"{one.file}\0{one.bytes}\0{one.mtime_ns}\n".encode())
        features = [options.example, options.label, options.weight, options.group]
        if options.learned != "class":
            features += [options.learned, *options.labels]
        # Of samples that are numbers a recording of this rate is made.
        rate = [] if options.rate_hz is None else [options.rate_hz]
        digest.update(json.dumps([features, self._classes, len(index), *rate]).encode())
        for numbers in (index.labels, index.weights, index.table.numbers):
            digest.update(array("d" if numbers is index.weights else "q", numbers).tobytes())
        digest.update("\0".join(index.groups).encode())
        if index.values is not None:
            digest.update(index.values.numbers.tobytes())
        elif options.learned == "labels":
            digest.update(" ".join(index.targets).encode())
        return f"records:{digest.hexdigest()}"

    def _notes(self, what: str, index: RecordIndex, named: bool) -> Iterator[str]:
        absent = [name for name, count in index.counts().items() if not count]
        if absent and (named or self._options.targets or self._options.names):
            lacks = "value" if self._options.learned == "numbers" else "examples"
            some = f"{len(absent)} of {len(index.classes)} {self._options.many}"
            yield f"{what} has no {lacks} of {some}: {listed(absent)}"
        for kind, count in sorted(index.missing.items()):
            records = f"{what}: {count} record{'' if count == 1 else 's'} without"
            which = kind.removesuffix("_dropped").replace("file", self._options.medium.one)
            if kind == "weight_imputed":
                how = f"{index.weight_fill:g} ({self._options.missing_field})"
                yield f"{records} weight, taken as {how}"
            else:
                yield f"{records} {which} left out"
        broken = [f"{one.file} ({one.broken})" for one in self._scanned if one.broken]
        if broken:
            yield f"warning: {what}: records cannot be read to the end of {', '.join(broken[:5])}"
        if index.ignored:
            kinds = ", ".join(f"{n} .{kind}" for kind, n in sorted(index.ignored.items()))
            yield f"{what}: files that are no TFRecords by their names were left out: {kinds}"
