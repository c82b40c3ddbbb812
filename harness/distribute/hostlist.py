"""SLURM's short forms of lists: ``n[1-3,7],login`` for hosts, ``2(x3),1`` for counts.  Pure."""

from __future__ import annotations

import re

_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")
_MOST = 1_000_000


def expand_hosts(text: str) -> list[str]:
    """The hosts of a list such as ``SLURM_STEP_NODELIST``, in its order.

    ``n[01-03]`` keeps its zeros; several brackets in one name multiply.

    Raises:
        ValueError: the text is no such list, or stands for over a million hosts.
    """
    hosts: list[str] = []
    for part in _split(text):
        hosts += _expand(part)
        if len(hosts) > _MOST:
            raise ValueError(f"a list of over {_MOST} hosts: {text[:80]!r}")
    return hosts


def _split(text: str) -> list[str]:
    """Parts between the commas that are outside of brackets."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if depth not in (0, 1):
            raise ValueError(f"brackets do not match in {text[:80]!r}")
        if letter == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    if depth:
        raise ValueError(f"a bracket is open in {text[:80]!r}")
    parts.append(text[start:])
    if not all(parts):
        raise ValueError(f"an empty name in {text[:80]!r}")
    return parts


def _expand(part: str) -> list[str]:
    before, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    inside, _, after = rest.partition("]")
    return [before + number + end for number in _numbers(inside) for end in _after(after)]


def _after(text: str) -> list[str]:
    return _expand(text) if text else [""]


def _numbers(text: str) -> list[str]:
    numbers: list[str] = []
    for span in text.split(","):
        first, dash, last = span.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{span!r} is no range of numbers")
        low, high = int(first), int(last or first)
        if high < low or high - low >= _MOST:
            raise ValueError(f"{span!r} is no range of numbers")
        numbers += [str(number).zfill(len(first)) for number in range(low, high + 1)]
    return numbers


def expand_counts(text: str) -> list[int]:
    """The counts of a list such as ``SLURM_STEP_TASKS_PER_NODE``: ``2(x3),1`` is 2, 2, 2, 1.

    Raises:
        ValueError: the text is no such list.
    """
    counts: list[int] = []
    for part in text.split(","):
        found = _COUNT.fullmatch(part)
        if found is None or int(found[2] or 1) > _MOST:
            raise ValueError(f"{text[:80]!r} is no list of counts")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts
