"""Walks a folder per class.  Free of TensorFlow."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.data.media import IMAGE, Medium
from harness.errors import DataError, Problem

IMAGE_EXTENSIONS = IMAGE.extensions

_SAY = 5


class Found:
    """What one class folder holds."""

    def __init__(self) -> None:
        self.files: list[tuple[str, int, int]] = []
        self.ignored: Counter[str] = Counter()
        self.broken: list[str] = []
        self.problems: list[Problem] = []


def class_folders(root: Path, medium: Medium = IMAGE) -> list[str]:
    try:
        with os.scandir(root) as entries:
            folders = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
    except FileNotFoundError:
        raise DataError(
            f"{root} does not exist", action="check the path, and that its storage is mounted here"
        ) from None
    except NotADirectoryError:
        raise DataError(
            f"{root} is not a folder",
            allowed="a folder that holds one folder per class, or a manifest (.csv, .tsv)",
        ) from None
    except OSError as error:
        raise DataError(f"{root} cannot be read", got=str(error.strerror)) from error
    if not folders:
        raise DataError(
            f"{root} has no class folders",
            allowed=f"a folder that holds one folder per class, with the {medium.many} inside",
            action=f"put the {medium.many} of each class into {root}/<class>/",
        )
    return folders


def scan(root: Path, folder: str, medium: Medium = IMAGE) -> Found:
    """All examples below one class folder; problems are collected, not raised."""
    found = Found()
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
                waiting += _take(entries, relative, found, medium.extensions)
        except OSError as error:
            what = f"{root / relative} cannot be read".encode("utf-8", "backslashreplace").decode()
            found.problems.append(Problem(what, got=str(error.strerror)))
    found.problems += bad_names(path for path, _, _ in found.files)
    return found


def _take(
    entries: Iterator[os.DirEntry[str]], relative: str, found: Found, extensions: Sequence[str]
) -> list[str]:
    """Sorts the entries of one folder into ``found``; returns the folders among them."""
    folders = []
    for entry in entries:
        name = entry.name
        if name.startswith("."):
            continue
        path = f"{relative}/{name}"
        extension = name.rpartition(".")[2].lower() if "." in name else ""
        if extension not in extensions:
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
    refuse(bad_names(names))


def bad_names(names: Iterable[str]) -> Iterator[Problem]:
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


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SAY} more" if len(names) > _SAY else ""
    return ", ".join(repr(name) for name in names[:_SAY]) + more


def refuse(problems: Iterable[Problem]) -> None:
    held = list(problems)
    if held:
        rest = len(held) - _SAY
        more = [Problem(f"and {rest} more of this kind")] if rest > 0 else []
        raise DataError(held[:_SAY] + more)
