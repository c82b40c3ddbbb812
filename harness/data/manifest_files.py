"""The files that a manifest names: their paths below its root, sizes and times."""

from __future__ import annotations

import functools
import os
import posixpath
import stat
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Most of the time goes into waiting for the metadata server of a network file system.
_THREADS = 16
_PIECE = 512


class Root:
    """What relative paths start from.

    Symbolic links on the way to the folder itself are followed once, here: then a name that
    begins with ``..`` means the same to the operating system as it does in text.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        as_given = os.path.abspath(folder)  # noqa: PTH100 - links are not to be followed here
        self._ways = {f"{as_given}/", f"{self.folder}/"}

    def name(self, text: str) -> str:
        """The path that a cell holds, relative to the folder, without ``.`` and needless ``..``."""
        if not text.startswith("/"):
            return posixpath.normpath(text)
        path = posixpath.normpath(text)
        for way in self._ways:
            if path.startswith(way):
                return path[len(way) :]
        return posixpath.relpath(path, self.folder)


@dataclass(frozen=True)
class Facts:
    """Of some files in the order of their names: bytes (-1 if there is none), time in ns.

    ``odd`` says of some of them what is wrong with them other than that they are not there.
    """

    sizes: array[int]
    mtimes: array[int]
    odd: dict[int, str]


def facts_of_files(root: Path, names: Sequence[str], order: Sequence[int]) -> Facts:
    """Looks at the files ``names[row]`` for each row of ``order``, many at a time."""
    sizes, mtimes = array("q"), array("q")
    odd: dict[int, str] = {}
    starts = range(0, len(order), _PIECE)

    def look(start: int) -> Facts:
        return _look(root, [names[row] for row in order[start : start + _PIECE]])

    with ThreadPoolExecutor(_THREADS) as pool:
        for start, piece in zip(starts, pool.map(look, starts), strict=True):
            sizes.extend(piece.sizes)
            mtimes.extend(piece.mtimes)
            odd.update((start + at, why) for at, why in piece.odd.items())
    return Facts(sizes, mtimes, odd)


def _look(root: Path, names: Sequence[str]) -> Facts:
    sizes, mtimes = array("q"), array("q")
    odd: dict[int, str] = {}
    for at, name in enumerate(names):
        size, mtime = 0, 0
        try:
            status = os.stat(f"{root}/{name}")  # noqa: PTH116 - a Path a file takes longer than the look
        except (FileNotFoundError, NotADirectoryError):
            size = -1
        except OSError as error:
            odd[at] = error.strerror or type(error).__name__
        except ValueError:
            odd[at] = "a path that holds a NUL character"
        else:
            size, mtime = status.st_size, status.st_mtime_ns
            if not stat.S_ISREG(status.st_mode):
                odd[at] = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
        sizes.append(size)
        mtimes.append(mtime)
    return Facts(sizes, mtimes, odd)


@functools.lru_cache(maxsize=1024)
def what_exists(folder: Path) -> Path:
    """The longest part of a folder's path that is there.

    It is kept: where one file of a folder is missing, thousands may be.
    """
    return next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))


def facts_of_texts(texts: Sequence[bytes], order: Sequence[int]) -> Facts:
    """As :func:`facts_of_files`; what a text is, its name says, so it has no time."""
    return Facts(array("q", (len(texts[row]) for row in order)), array("q", [0]) * len(order), {})
