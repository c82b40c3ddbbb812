"""The index of a data set: names, labels, classes and a digest.  Free of TensorFlow.

A folder data set has one folder per class; everything below a class folder belongs to it.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.data.media import IMAGE, Medium
from harness.data.multilabel import As, present
from harness.data.regression import Values
from harness.data.scan import Found, bad_names, class_folders, listed, refuse, scan
from harness.errors import DataError, Problem

# Most of the time goes into waiting for the metadata server of a network file system.
_THREADS = 16
_MANIFEST = "manifest:"


@dataclass(frozen=True)
class ExampleIndex:
    """Examples in sorted order.

    ``names`` are relative to ``root``, '/'-separated, sorted by code point (which is the order
    of their UTF-8 bytes); ``labels``, ``sizes`` (bytes) and ``mtimes`` (ns) stand in that order.
    ``classes`` are sorted; a label is a row of it.  ``ignored`` counts files that were left out,
    by extension; ``notes`` are sentences for the user.

    A manifest may give each example a weight in the loss (``weights``) and what must stay on one
    side of a split (``groups``); ``missing`` counts what it lacked, by kind.

    It may give each example several labels at once (``targets``, see
    :mod:`harness.data.multilabel`) or numbers (``values``); ``classes`` are the names of these
    then, and ``labels`` are all 0.  Of labels that may be uncertain, ``states`` tell what they were
    before ``uncertain`` (the value that meant it, and what it was taken as) was applied.  It may
    hold the examples themselves: ``texts``, UTF-8.

    A subset keeps where it is from: ``whole`` is the number of examples of the whole set and
    ``rows`` those of the subset in it.  It follows the order of the whole set.
    """

    root: Path
    names: Sequence[str]
    labels: Sequence[int]
    classes: tuple[str, ...]
    sizes: Sequence[int]
    digest: str
    mtimes: Sequence[int] = ()
    ignored: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    whole: int = 0
    rows: Sequence[int] = ()
    weights: Sequence[float] = ()
    groups: Sequence[str] = ()
    texts: Sequence[bytes] = ()
    missing: dict[str, int] = field(default_factory=dict)
    targets: Sequence[str] = ()
    states: Sequence[str] = ()
    uncertain: tuple[int, As] | None = None
    values: Values | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def example_bytes(self) -> float:
        """Mean size of an example; 0 where it is not known."""
        return sum(self.sizes) / len(self.sizes) if self.sizes else 0.0

    def counts(self) -> dict[str, int]:
        """Examples of every class; of several labels or numbers those that surely have it."""
        if self.values is not None:
            return dict(zip(self.classes, self.values.known(), strict=True))
        if self.targets:
            return dict(zip(self.classes, present(self.targets, len(self.classes)), strict=True))
        held = Counter(self.labels)
        return {name: held[label] for label, name in enumerate(self.classes)}

    def subset(self, rows: Sequence[int], notes: tuple[str, ...] = ()) -> ExampleIndex:
        """The index of some rows, which must be ascending; its digest is theirs alone."""
        names = [self.names[row] for row in rows]
        part = replace(
            self,
            names=names,
            labels=[self.labels[row] for row in rows],
            sizes=_pick(self.sizes, rows),
            mtimes=_pick(self.mtimes, rows),
            notes=notes,
            whole=self.whole or len(self),
            rows=_pick(self.rows, rows) if self.rows else array("q", rows),
            weights=array("d", (self.weights[row] for row in rows) if self.weights else ()),
            groups=[self.groups[row] for row in rows] if self.groups else (),
            texts=[self.texts[row] for row in rows] if self.texts else (),
            targets=[self.targets[row] for row in rows] if self.targets else (),
            states=[self.states[row] for row in rows] if self.states else (),
            values=self.values.subset(rows) if self.values is not None else None,
        )
        if self.digest.startswith(_MANIFEST):
            return replace(part, digest=manifest_digest(part))
        if self.sizes:
            return replace(part, digest=metadata_digest(names, part.sizes, part.mtimes))
        held = "\0".join([self.digest, *names]).encode()
        return replace(part, digest=f"subset:{hashlib.sha256(held).hexdigest()}")


def folder_index(
    path: str | Path, classes: Sequence[str] | None = None, medium: Medium = IMAGE
) -> ExampleIndex:
    """Indexes a folder per class.

    Hidden files and folders (leading dot) are left out in silence, other files that are no
    examples are counted in ``ignored``.  Symbolic links to files and folders are followed.

    Args:
        path: the folder that holds the class folders.
        classes: for validation and test data: the classes of the training data.  Then a class
            may be missing here (said in ``notes``), but no other may be present.
        medium: what the examples are.

    Raises:
        DataError: the folder is not usable; names what is wrong, all of it where possible.
    """
    root = Path(path)
    folders = class_folders(root, medium)
    if classes is None:
        refuse(bad_names(folders))
        if len(folders) == 1:
            raise DataError(
                f"{root} has one class folder only",
                got=repr(folders[0]),
                allowed="two class folders or more",
                action="add a folder per further class",
            )
    else:
        refuse(_unknown_classes(root, folders, classes))
    with ThreadPoolExecutor(_THREADS) as pool:
        scanned = pool.map(lambda one: scan(root, one, medium), folders)
        found = dict(zip(folders, scanned, strict=True))
    refuse(problem for seen in found.values() for problem in seen.problems)
    refuse(_empty(root, found, medium))
    known = tuple(folders) if classes is None else tuple(classes)
    return _assemble(root, known, found, medium)


def metadata_digest(names: Sequence[str], sizes: Sequence[int], mtimes: Sequence[int]) -> str:
    """``metadata:`` and the SHA-256 over sorted (relative name, size in bytes, mtime in ns)."""
    digest = hashlib.sha256(b"harness metadata 1\n")
    for start in range(0, len(names), 4096):
        rows = slice(start, start + 4096)
        # A name holds no NUL, so the fields cannot run into one another.
        lines = (
            f"{name}\0{size}\0{mtime}\n"
            for name, size, mtime in zip(names[rows], sizes[rows], mtimes[rows], strict=True)
        )
        digest.update("".join(lines).encode())
    return f"metadata:{digest.hexdigest()}"


def manifest_digest(index: ExampleIndex) -> str:
    """``manifest:`` and the SHA-256 over what the examples of a manifest are, in sorted order.

    Of each its relative name, size in bytes, mtime in ns, label, weight and group.
    """
    digest = hashlib.sha256(b"harness manifest 1\n")
    several = index.values or index.targets
    if several:
        digest.update(repr(index.classes).encode())
    for start in range(0, len(index), 4096):
        rows = slice(start, start + 4096)
        names = zip(index.names[rows], index.sizes[rows], index.mtimes[rows], strict=True)
        # Lengths stand first, so that no text in a field can look like the end of it.
        labels = several[rows] or [index.classes[label] for label in index.labels[rows]]
        weights = map(repr, index.weights[rows]) if index.weights else [""] * len(labels)
        groups = index.groups[rows] if index.groups else [""] * len(labels)
        for name, label, weight, group in zip(names, labels, weights, groups, strict=True):
            texts = (*map(str, name), label, weight, group)
            lengths = " ".join(str(len(text)) for text in texts)
            digest.update(f"{lengths}\n{''.join(texts)}\n".encode())
    return f"{_MANIFEST}{digest.hexdigest()}"


def content_digest(index: ExampleIndex) -> str:
    """``content:`` and the SHA-256 over sorted (relative name, SHA-256 of the file).

    Reads every file; equal for copies whose times differ.

    Raises:
        DataError: a file cannot be read.
    """
    digest = hashlib.sha256(b"harness content 1\n")
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = pool.map(lambda name: _file_sum(index.root / name), index.names)
        for name, file_sum in zip(index.names, sums, strict=True):
            digest.update(f"{name}\0{file_sum}\n".encode())
    return f"content:{digest.hexdigest()}"


def _unknown_classes(root: Path, folders: list[str], classes: Sequence[str]) -> Iterator[Problem]:
    known = set(classes)
    for name in folders:
        if name not in known:
            yield Problem(
                f"{root} has a class that the training data does not have",
                got=repr(name),
                allowed=listed(list(classes)),
                action="remove or rename the folder, or add the class to the training data",
            )


def _empty(root: Path, found: dict[str, Found], medium: Medium) -> Iterator[Problem]:
    kinds, many = medium.kinds, medium.many
    if not any(seen.files for seen in found.values()):
        ignored = _ignored(found)
        others = ", ".join(f"{n} .{kind}" for kind, n in sorted(ignored.items())) or "no files"
        yield Problem(f"{root} holds no {many}", got=others, allowed=f"files ending in {kinds}")
        return
    for name, seen in found.items():
        if not seen.files:
            yield Problem(
                f"class folder {root / name} holds no {many}",
                got=", ".join(f"{n} .{kind}" for kind, n in sorted(seen.ignored.items()))
                or "no files",
                allowed=f"at least one file ending in {kinds}",
                action=f"add {many} or remove the folder",
            )


def _assemble(
    root: Path, classes: tuple[str, ...], found: dict[str, Found], medium: Medium
) -> ExampleIndex:
    label_of = {name: label for label, name in enumerate(classes)}
    rows = [
        (path, size, mtime, label_of[name])
        for name, seen in found.items()
        for path, size, mtime in seen.files
    ]
    rows.sort()
    names = [row[0] for row in rows]
    sizes = array("q", (row[1] for row in rows))
    mtimes = array("q", (row[2] for row in rows))
    return ExampleIndex(
        root=root,
        names=names,
        labels=array("l", (row[3] for row in rows)),
        classes=classes,
        sizes=sizes,
        digest=metadata_digest(names, sizes, mtimes),
        mtimes=mtimes,
        ignored=dict(_ignored(found)),
        notes=tuple(_notes(root, classes, found, medium)),
    )


def _notes(
    root: Path, classes: tuple[str, ...], found: dict[str, Found], medium: Medium
) -> Iterator[str]:
    missing = [name for name in classes if name not in found]
    if missing:
        some = f"{len(missing)} of {len(classes)} classes"
        yield f"{root} has no examples of {some}: {listed(missing)}"
    broken = [path for seen in found.values() for path in seen.broken]
    if broken:
        yield f"{root}: {len(broken)} broken links were left out: {listed(broken)}"
    ignored = _ignored(found)
    if ignored:
        kinds = ", ".join(
            f"{n} .{kind}" if kind else f"{n} without extension"
            for kind, n in sorted(ignored.items())
        )
        yield f"{root}: files that are no {medium.many} were left out: {kinds}"


def _ignored(found: dict[str, Found]) -> Counter[str]:
    return sum((seen.ignored for seen in found.values()), Counter())


def _pick(values: Sequence[int], rows: Sequence[int]) -> array[int]:
    return array("q", (values[row] for row in rows)) if values else array("q")


def _file_sum(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path} cannot be read", got=str(error.strerror)) from error
    return digest.hexdigest()
