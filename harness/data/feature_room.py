"""How much features, and indexes of records, may take in the cache, and which go first.

Free of TensorFlow.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness.data.feature_store import ENTRY, FEATURES, USED
from harness.data.record_seen import RECORDS

IN_USE_S = 3600.0
"""As long as an entry counts as in use after a run has last noted that it reads it."""


@dataclass(frozen=True)
class Kept:
    """An entry on disk.

    Attributes:
        bytes: of its files.
        used_s: seconds since a run has last read from it.
        facts: what it is, from its ``entry.json``; empty where that cannot be read.
    """

    folder: Path
    bytes: int
    used_s: float
    facts: dict[str, Any]

    @property
    def kind(self) -> str:
        """``features``, or ``records``: what was seen of TFRecord files."""
        return self.folder.parent.name

    @property
    def in_use(self) -> bool:
        """Whether a run may be reading it."""
        return self.used_s < IN_USE_S


def entries(root: Path) -> list[Kept]:
    """The entries below a cache root, the one longest unused first.

    What vanishes or cannot be looked at meanwhile is left out: others use the cache too.
    """
    found = []
    for folder in (*_folders(root / FEATURES), *_folders(root / RECORDS)):
        try:
            size = sum(one.stat().st_size for one in os.scandir(folder))
            found.append(Kept(folder, size, _seconds_unused(folder), _facts(folder)))
        except OSError:
            continue
    return sorted(found, key=lambda one: -one.used_s)


def _folders(of: Path) -> list[Path]:
    try:
        names = [one.name for one in os.scandir(of) if one.is_dir()]
    except OSError:
        return []
    return [of / name for name in names if not name.startswith(".making-")]


def remove(kept: Kept) -> bool:
    """Removes an entry; false where it may not be, not all of it, or where it came into use.

    Its folder is moved aside first, so that nobody finds half of it.
    """
    aside = kept.folder.with_name(f".{kept.folder.name}.gone")
    try:
        if _seconds_unused(kept.folder) < IN_USE_S:
            return False
        kept.folder.rename(aside)
    except OSError:
        return False
    shutil.rmtree(aside, ignore_errors=True)
    return not aside.exists()


class Removable(Protocol):
    """What is kept and can go."""

    @property
    def bytes(self) -> int:
        """Of its files."""

    @property
    def in_use(self) -> bool:
        """Whether it has to stay."""


_R = TypeVar("_R", bound=Removable)


def to_remove(found: Iterable[_R], allowed: int) -> list[_R]:
    """Which entries have to go for the rest to take ``allowed`` bytes: the longest unused.

    Those in use stay, so the rest may still be more.

    Args:
        found: the longest unused first.
    """
    found = list(found)
    left, gone = sum(one.bytes for one in found), []
    for one in found:
        if left <= allowed:
            break
        if not one.in_use:
            gone.append(one)
            left -= one.bytes
    return gone


def _seconds_unused(folder: Path) -> float:
    used = folder / USED
    last = (used if used.exists() else folder).stat().st_mtime
    return max(0.0, time.time() - last)


def _facts(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / ENTRY).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
