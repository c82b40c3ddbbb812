"""Targets of several labels at once: one column of 0 and 1 for each.  Free of TensorFlow.

The targets of an example are a text with one sign for each label: ``1`` present, ``0`` absent,
``?`` not known.  Its *states* have a fourth one, ``-`` for uncertain, which ``data.uncertain``
takes as one of the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ABSENT, PRESENT, UNKNOWN, UNCERTAIN = "0", "1", "?", "-"
STATES = {PRESENT: 1, ABSENT: 0, UNCERTAIN: -1, UNKNOWN: -2}
"""The states as numbers, for files."""
As = Literal["ignore", "zero", "one"]
_TAKEN: dict[str, str] = {"ignore": UNKNOWN, "zero": ABSENT, "one": PRESENT}


def state_of(cell: str, uncertain: int | None) -> str | None:
    """The state of a cell that is not missing; None where it is no 0, 1 or uncertain value.

    Args:
        cell: a number, as ``1`` or ``1.0``.
        uncertain: the value that means uncertain.
    """
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if "_" in cell:  # Python reads 1_0 as a number, and no table means one by it
        return None
    if uncertain is not None and value == uncertain:
        return UNCERTAIN
    return {0.0: ABSENT, 1.0: PRESENT}.get(value)


def listed_labels(cell: str, separator: str) -> list[str] | None:
    """The labels that a cell lists, each once and sorted; None where one of them is empty.

    Args:
        cell: empty where there is no label.
        separator: what is between two; space around a label does not count, and where the
            separator itself is space, any amount of it is one.
    """
    parts = cell.split(separator) if separator.strip() else cell.split()
    names = {part.strip() for part in parts} if cell else set()
    return None if "" in names else sorted(names)


def signs_of(names: Iterable[str], classes: Sequence[str]) -> str:
    """The targets of an example that has the labels ``names`` and no other."""
    held = frozenset(names)
    return "".join(PRESENT if name in held else ABSENT for name in classes)


def taken(states: str, as_: As) -> str:
    """The targets that states are, with uncertain labels taken as ``as_``."""
    return states.replace(UNCERTAIN, _TAKEN[as_])


def present(targets: Iterable[str], labels: int) -> list[int]:
    """For each label the examples that surely have it."""
    counts = [0] * labels
    for signs in targets:
        for label, sign in enumerate(signs):
            counts[label] += sign == PRESENT
    return counts


def as_numbers(targets: Sequence[str]) -> NDArray[np.float32]:
    """float32 [n, labels]: 1 present, 0 absent, -1 not known."""
    import numpy as np  # which a plan does without

    signs = np.frombuffer("".join(targets).encode(), np.uint8).reshape(len(targets), -1)
    return np.where(signs == ord(UNKNOWN), -1.0, signs == ord(PRESENT)).astype(np.float32)


def states_as_numbers(states: Sequence[str]) -> NDArray[np.int8]:
    """int8 [n, labels], by :data:`STATES`."""
    import numpy as np

    number_of = np.zeros(128, np.int8)
    for sign, number in STATES.items():
        number_of[ord(sign)] = number
    signs = np.frombuffer("".join(states).encode(), np.uint8).reshape(len(states), -1)
    return number_of[signs]


def numbers_as_taken(states: NDArray[np.int8], as_: As) -> NDArray[np.float32]:
    """As :func:`as_numbers`, of states as numbers [n, labels]."""
    import numpy as np

    uncertain = {UNKNOWN: -1, ABSENT: 0, PRESENT: 1}[_TAKEN[as_]]
    known = np.where(states == STATES[UNCERTAIN], uncertain, states)
    return np.maximum(known, -1).astype(np.float32)
