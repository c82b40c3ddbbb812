"""The tables that quota commands print, read into bytes and files.  Pure.

Three are known: that of ``quota`` (with -w, -p, -s or none of them), that of ``lfs quota`` of
Lustre, which looks the same, and that of ``mmlsquota`` of Storage Scale, which has a ``|`` between
bytes and files.  Columns for the grace may be empty, names that are too long for their column
stand on a line of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"\[?(\d+(?:\.\d+)?)([kKmMgGtTpPeE]?)(?:i?B)?\*?\]?\*?")
_POWER = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
# The head of mmlsquota's column of bytes: in what a plain number counts.
_BLOCKS = {"KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_TYPES = ("USR", "GRP", "FILESET")
# What stands in the column of the grace once the time in it is over.
_OVER = ("none", "expired")


@dataclass(frozen=True)
class Use:
    """How much is used, and the two limits; a limit that is not set is None.

    ``expired``: the time is over that one may stay above the soft limit.
    """

    used: int
    soft: int | None
    hard: int | None
    expired: bool = False

    @property
    def limit(self) -> int | None:
        """The number beyond which nothing more can be written."""
        over = self.soft is not None and self.used > self.soft
        if over and self.expired:
            return self.soft
        return self.hard

    def left(self) -> int | None:
        """What may still be written; None without a limit."""
        return None if self.limit is None else max(0, self.limit - self.used)


@dataclass(frozen=True)
class Quota:
    """One line of a table.  ``sure`` is false where Lustre says that its figures are not."""

    system: str
    bytes: Use
    files: Use
    sure: bool = True


def read_quotas(text: str) -> list[Quota]:
    """Every line of a quota table in ``text``; other lines are passed over."""
    found = []
    name: str | None = None
    block = 1024
    for line in text.splitlines():
        tokens = line.split()
        if name is not None and tokens and _value(tokens[0], 1024) is not None:
            tokens = [name, *tokens]
        if "|" in line:
            block = next((_BLOCKS[word] for word in tokens if word in _BLOCKS), block)
            quota = _scale(line, block)
        else:
            quota = _row(tokens)
        if quota is not None:
            found.append(quota)
        # A name that did not fit into its column is followed by its numbers.
        name = tokens[0] if len(tokens) == 1 else None
    return found


def _row(tokens: Sequence[str]) -> Quota | None:
    """``quota`` and ``lfs quota``: name, then used, soft, hard and grace of bytes and files."""
    if len(tokens) < 7 or tokens[0].endswith("_UUID"):
        return None  # Lustre's single servers come after the whole
    rest = list(tokens[1:])
    parts: list[tuple[list[str], list[str]]]
    if all(_value(token, 1) is not None for token in rest) and len(rest) == 8:
        # quota -p: the grace is a time in seconds, 0 for none.
        parts = [(rest[:3], []), (rest[4:7], [])]
    else:
        cut = _second_group(rest)
        if cut is None:
            return None
        parts = [(rest[:3], rest[3:cut]), (rest[cut : cut + 3], rest[cut + 3 :])]
    (blocks, block_grace), (files, file_grace) = parts
    return _quota(tokens[0], blocks, block_grace, files, file_grace)


def _second_group(rest: Sequence[str]) -> int | None:
    """Where the numbers of files begin, after three numbers and a grace that may be empty."""
    for cut in (3, 4):
        numbers = [*rest[:3], *rest[cut : cut + 3]]
        graces = [*rest[3:cut], *rest[cut + 3 :]]
        if (
            len(numbers) == 6
            and all(_value(token, 1) is not None for token in numbers)
            and len(graces) <= 2
            and all(_value(token, 1) is None for token in graces)
        ):
            return cut
    return None


def _scale(line: str, block: int) -> Quota | None:
    """``mmlsquota``: file system, perhaps a fileset, the type, then the numbers."""
    front, _, back = line.partition("|")
    left, files = front.split(), back.split()
    kind = next((i for i, word in enumerate(left) if word in _TYPES and i > 0), None)
    if kind is None:
        return None
    blocks = left[kind + 1 :]
    if len(blocks) < 5 or len(files) < 5:
        return None
    # The fourth number is what the servers have not yet agreed on.
    return _quota(left[0], blocks[:3], blocks[4:], files[:3], files[4:5], block)


def _quota(
    system: str,
    blocks: Sequence[str],
    block_grace: Sequence[str],
    files: Sequence[str],
    file_grace: Sequence[str],
    block: int = 1024,
) -> Quota | None:
    sizes = [_value(token, block) for token in blocks]
    counts = [_value(token, 1) for token in files]
    if None in sizes or None in counts:
        return None
    used, soft, hard = (number or 0 for number in sizes)
    made, few, many = (number or 0 for number in counts)
    sure = not any("[" in token for token in (*blocks, *files))
    return Quota(
        system,
        Use(used, soft or None, hard or None, _is_over(block_grace)),
        Use(made, few or None, many or None, _is_over(file_grace)),
        sure,
    )


def _is_over(grace: Sequence[str]) -> bool:
    return bool(grace) and grace[0].lower() in _OVER


def _value(token: str, unit: int) -> int | None:
    """A number: plain in units of ``unit``, or with a magnitude.

    Magnitudes of bytes (``unit`` above 1) are powers of 1024, those of files of 1000, as
    ``quota -s`` shortens them.
    """
    match = _NUMBER.fullmatch(token)
    if match is None:
        return None
    power = _POWER[match[2].upper()]
    factor = unit if power == 0 else (1024 if unit > 1 else 1000) ** power
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor
