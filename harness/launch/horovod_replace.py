"""Changes text of which every word is known."""

from __future__ import annotations


def replaced(text: str, old: str, new: str) -> str:
    """``text`` with the only ``old`` in it replaced.

    Raises:
        ValueError: it is not there, or several times; what ``new`` holds of it does not count.
    """
    times = text.count(old) - text.count(new) * new.count(old) if new else text.count(old)
    if times != 1:
        raise ValueError(f"{old.strip().splitlines()[0]!r} is there {times} times, not once")
    return text.replace(old, new)
