"""The index of a data set: names, labels, classes and a digest.  Free of TensorFlow.

A folder data set has one folder per class; everything below a class folder belongs to it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import DataError, Problem

IMAGE_EXTENSIONS = ("bmp", "gif", "jpeg", "jpg", "png")
"""What TensorFlow's decoder reads; the content decides, not which of these a name ends in."""

# Most of the time goes into waiting for the metadata server of a network file system.
_THREADS = 16
_SAY = 5


@dataclass(frozen=True)
class ExampleIndex:
    """Examples in sorted order.

    ``names`` are relative to ``root``, '/'-separated, sorted by code point (which is the order
    of their UTF-8 bytes); ``labels``, ``sizes`` (bytes) and ``mtimes`` (ns) stand in that order.
    ``classes`` are sorted; a label is a row of it.  ``ignored`` counts files that were left out,
    by extension; ``notes`` are sentences for the user.
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

    def __len__(self) -> int:
        return len(self.names)

    def counts(self) -> dict[str, int]:
        """Examples of every class."""
        held = Counter(self.labels)
        return {name: held[label] for label, name in enumerate(self.classes)}

    def subset(self, rows: Sequence[int], notes: tuple[str, ...] = ()) -> ExampleIndex:
        """The index of some rows, which must be ascending; its digest is theirs alone."""
        names = [self.names[row] for row in rows]
        sizes, mtimes = _pick(self.sizes, rows), _pick(self.mtimes, rows)
        labels = [self.labels[row] for row in rows]
        if sizes:
            digest = metadata_digest(names, sizes, mtimes)
        else:
            held = "\0".join([self.digest, *names]).encode()
            digest = f"subset:{hashlib.sha256(held).hexdigest()}"
        return replace(
            self, names=names, labels=labels, sizes=sizes, mtimes=mtimes, digest=digest, notes=notes
        )


def folder_index(path: str | Path, classes: Sequence[str] | None = None) -> ExampleIndex:
    """Indexes a folder per class.

    Hidden files and folders (leading dot) are left out in silence, other files that are no
    images are counted in ``ignored``.  Symbolic links to files and folders are followed.

    Args:
        path: the folder that holds the class folders.
        classes: for validation and test data: the classes of the training data.  Then a class
            may be missing here (said in ``notes``), but no other may be present.

    Raises:
        DataError: the folder is not usable; names what is wrong, all of it where possible.
    """
    root = Path(path)
    folders = _class_folders(root)
    found = {name: _Found() for name in folders}
    if classes is None:
        _refuse(_bad_names(folders))
        if len(folders) == 1:
            raise DataError(
                f"{root} has one class folder only",
                got=repr(folders[0]),
                allowed="two class folders or more",
                action="add a folder per further class",
            )
    else:
        _refuse(_unknown_classes(root, folders, classes))
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, seen in zip(
            folders, pool.map(lambda one: _scan(root, one), folders), strict=True
        ):
            found[name] = seen
    _refuse(problem for seen in found.values() for problem in seen.problems)
    _refuse(_empty(root, found))
    known = tuple(folders) if classes is None else tuple(classes)
    return _assemble(root, known, found)


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


class _Found:
    """What one class folder holds."""

    def __init__(self) -> None:
        self.files: list[tuple[str, int, int]] = []
        self.ignored: Counter[str] = Counter()
        self.broken: list[str] = []
        self.problems: list[Problem] = []


def _class_folders(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            folders = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
    except FileNotFoundError:
        raise DataError(
            f"{root} does not exist", action="check the path, and that its storage is mounted here"
        ) from None
    except NotADirectoryError:
        raise DataError(
            f"{root} is not a folder", allowed="a folder that holds one folder per class"
        ) from None
    except OSError as error:
        raise DataError(f"{root} cannot be read", got=str(error.strerror)) from error
    if not folders:
        raise DataError(
            f"{root} has no class folders",
            allowed="a folder that holds one folder per class, with the images inside",
            action=f"put the images of each class into {root}/<class>/",
        )
    return folders


def _scan(root: Path, folder: str) -> _Found:
    """All images below one class folder; problems are collected, not raised."""
    found = _Found()
    waiting = [folder]
    seen: set[tuple[int, int]] = set()
    while waiting:
        relative = waiting.pop()
        try:
            status = (root / relative).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue  # a symbolic link that leads back
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / relative) as entries:
                waiting += _take(entries, relative, found)
        except OSError as error:
            what = f"{root / relative} cannot be read".encode("utf-8", "backslashreplace").decode()
            found.problems.append(Problem(what, got=str(error.strerror)))
    found.problems += _bad_names(path for path, _, _ in found.files)
    return found


def _take(entries: Iterator[os.DirEntry[str]], relative: str, found: _Found) -> list[str]:
    """Sorts the entries of one folder into ``found``; returns the folders among them."""
    folders = []
    for entry in entries:
        name = entry.name
        if name.startswith("."):
            continue
        path = f"{relative}/{name}"
        extension = name.rpartition(".")[2].lower() if "." in name else ""
        if extension not in IMAGE_EXTENSIONS:
            if entry.is_dir():
                folders.append(path)
            else:
                found.ignored[extension] += 1
            continue
        try:
            status = entry.stat()
        except FileNotFoundError:
            found.broken.append(path)
            continue
        if stat.S_ISDIR(status.st_mode):
            folders.append(path)
        elif stat.S_ISREG(status.st_mode):
            found.files.append((path, status.st_size, status.st_mtime_ns))
        else:
            found.ignored[extension] += 1
    return folders


def refuse_bad_names(names: Iterable[str]) -> None:
    """Holds that names are valid Unicode, which TensorFlow's UTF-8 strings need.

    Raises:
        DataError: the first ones that are not.
    """
    _refuse(_bad_names(names))


def _bad_names(names: Iterable[str]) -> Iterator[Problem]:
    for name in names:
        if name.isascii():
            continue
        try:
            name.encode()
        except UnicodeEncodeError:
            yield Problem(
                "a file or folder name is not valid UTF-8",
                got=repr(name),
                action="rename it (convmv -f latin1 -t utf8 does whole folders)",
            )


def _unknown_classes(root: Path, folders: list[str], classes: Sequence[str]) -> Iterator[Problem]:
    known = set(classes)
    for name in folders:
        if name not in known:
            yield Problem(
                f"{root} has a class that the training data does not have",
                got=repr(name),
                allowed=_listed(list(classes)),
                action="remove or rename the folder, or add the class to the training data",
            )


def _empty(root: Path, found: dict[str, _Found]) -> Iterator[Problem]:
    kinds = ", ".join(IMAGE_EXTENSIONS)
    if not any(seen.files for seen in found.values()):
        ignored = _ignored(found)
        others = ", ".join(f"{n} .{kind}" for kind, n in sorted(ignored.items())) or "no files"
        yield Problem(f"{root} holds no images", got=others, allowed=f"files ending in {kinds}")
        return
    for name, seen in found.items():
        if not seen.files:
            yield Problem(
                f"class folder {root / name} holds no images",
                got=", ".join(f"{n} .{kind}" for kind, n in sorted(seen.ignored.items()))
                or "no files",
                allowed=f"at least one file ending in {kinds}",
                action="add images or remove the folder",
            )


def _assemble(root: Path, classes: tuple[str, ...], found: dict[str, _Found]) -> ExampleIndex:
    label_of = {name: label for label, name in enumerate(classes)}
    rows = [
        (path, size, mtime, label_of[name])
        for name, seen in found.items()
        for path, size, mtime in seen.files
    ]
    rows.sort()
    names = [row[0] for row in rows]
    sizes, mtimes = (array("q", (row[at] for row in rows)) for at in (1, 2))
    return ExampleIndex(
        root=root,
        names=names,
        labels=array("l", (row[3] for row in rows)),
        classes=classes,
        sizes=sizes,
        digest=metadata_digest(names, sizes, mtimes),
        mtimes=mtimes,
        ignored=dict(_ignored(found)),
        notes=tuple(_notes(root, classes, found)),
    )


def _notes(root: Path, classes: tuple[str, ...], found: dict[str, _Found]) -> Iterator[str]:
    missing = [name for name in classes if name not in found]
    if missing:
        some = f"{len(missing)} of {len(classes)} classes"
        yield f"{root} has no examples of {some}: {_listed(missing)}"
    broken = [path for seen in found.values() for path in seen.broken]
    if broken:
        yield f"{root}: {len(broken)} broken links were left out: {_listed(broken)}"
    ignored = _ignored(found)
    if ignored:
        kinds = ", ".join(
            f"{n} .{kind}" if kind else f"{n} without extension"
            for kind, n in sorted(ignored.items())
        )
        yield f"{root}: files that are no images were left out: {kinds}"


def _ignored(found: dict[str, _Found]) -> Counter[str]:
    return sum((seen.ignored for seen in found.values()), Counter())


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SAY} more" if len(names) > _SAY else ""
    return ", ".join(repr(name) for name in names[:_SAY]) + more


def _refuse(problems: Iterable[Problem]) -> None:
    held = list(problems)
    if held:
        rest = len(held) - _SAY
        more = [Problem(f"and {rest} more of this kind")] if rest > 0 else []
        raise DataError(held[:_SAY] + more)


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
