"""Targets of several labels at once: one column of 0 and 1 for each.  Free of TensorFlow.

The targets of an example are a text with one sign for each label: ``1`` present, ``0`` absent,
``?`` not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ABSENT, PRESENT, UNKNOWN = "0", "1", "?"
As = Literal["ignore", "zero", "one"]
_TAKEN: dict[str, str] = {"ignore": UNKNOWN, "zero": ABSENT, "one": PRESENT}


def sign_of(cell: str, uncertain: tuple[int, As] | None) -> str | None:
    """The sign of a cell that is not missing; None where it is no 0, 1 or uncertain value.

    Args:
        cell: a number, as ``1`` or ``1.0``.
        uncertain: the value that means uncertain, and what it is taken as.
    """
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if "_" in cell:  # Python reads 1_0 as a number, and no table means one by it
        return None
    if uncertain is not None and value == uncertain[0]:
        return _TAKEN[uncertain[1]]
    return {0.0: ABSENT, 1.0: PRESENT}.get(value)


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
