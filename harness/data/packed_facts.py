"""What an ``index.json`` says of a packed set whose examples have no class.  Free of TensorFlow.

Such a set holds several labels at once (``"targets": "labels"``) or numbers (``"numbers"``); its
``classes`` are their names, and ``targets.bin`` has an entry for each example in place of
``labels.bin``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.data.multilabel import STATES, UNKNOWN, As, states_as_numbers, taken
from harness.data.regression import Numbers
from harness.spec.models_model import Learned

if TYPE_CHECKING:
    from harness.data.index import ExampleIndex

TARGETS = "targets.bin"
_KINDS: dict[Learned, str] = {"labels": "i1", "numbers": "<f8"}
_NAMES = {"1": "present", "0": "absent", "-": "uncertain", "?": "missing"}


@dataclass(frozen=True)
class LabelFacts:
    """What is known of the labels of a whole set.

    Attributes:
        value: the one that meant uncertain where it was packed; None where none did.
        as_: what such labels were taken as there; examples of which nothing was known then are
            not in the set.
        states: for each label how many examples have it in which state, by the states' numbers.
        unsure: examples of which no label is surely present or absent.
    """

    value: int | None
    as_: As
    states: tuple[dict[int, int], ...]
    unsure: int

    @property
    def uncertain(self) -> int:
        """Labels that are uncertain, over all examples."""
        return sum(one[-1] for one in self.states)

    def to_json(self) -> dict[str, Any]:
        """For ``index.json``."""
        named = [
            {_NAMES[sign]: one[number] for sign, number in STATES.items()} for one in self.states
        ]
        uncertain = None if self.value is None else {"value": self.value, "as": self.as_}
        return {"uncertain": uncertain, "states": named, "unsure": self.unsure}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> LabelFacts:
        """What :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        said = data["uncertain"]
        as_: As = "ignore" if said is None else said["as"]
        taken("", as_)
        states = tuple(
            {number: int(one[_NAMES[sign]]) for sign, number in STATES.items()}
            for one in data["states"]
        )
        value = None if said is None else int(said["value"])
        return cls(value, as_, states, int(data["unsure"]))


def learned_of(data: Mapping[str, Any]) -> Learned:
    """What the examples of a set have.

    Raises:
        ValueError: ``index.json`` says something that this version does not know.
    """
    said = data.get("targets", "class")
    if said == "class" or said in _KINDS:
        return said
    raise ValueError(f"targets: {said!r}")


def targets_kind(learned: Learned, width: int) -> str:
    """What numpy calls the type of an entry of ``targets.bin``."""
    return f"({width},){_KINDS[learned]}"


def learned_in(source: ExampleIndex) -> Learned:
    """What the examples of an index have."""
    if source.values is not None:
        return "numbers"
    return "labels" if source.targets else "class"


def targets_of(source: ExampleIndex, rows: Sequence[int] | NDArray[Any]) -> NDArray[Any]:
    """The entries of ``targets.bin`` for rows of an index: int8 or float64 [n, width].

    Labels stand as their states (:data:`harness.data.multilabel.STATES`).
    """
    if source.values is not None:
        return np.asarray(source.values.subset(rows).numbers, "<f8").reshape(len(rows), -1)
    states = source.states or source.targets
    return states_as_numbers([states[row] for row in rows])


def facts_json(source: ExampleIndex) -> dict[str, Any]:
    """What is written of the targets of a whole set; nothing where examples have a class."""
    learned = learned_in(source)
    if source.values is not None:
        return {"targets": learned, "spread": [asdict(one) for one in source.values.each()]}
    if not source.targets:
        return {}
    value, as_ = source.uncertain or (None, "ignore")
    each: dict[str, int] = {}
    for states in source.states or source.targets:
        each[states] = each.get(states, 0) + 1
    counts = tuple(dict.fromkeys(STATES.values(), 0) for _ in source.classes)
    for states, count in each.items():
        for label, sign in enumerate(states):
            counts[label][STATES[sign]] += count
    unsure = sum(n for states, n in each.items() if set(taken(states, "ignore")) == {UNKNOWN})
    return {"targets": learned, **LabelFacts(value, as_, counts, unsure).to_json()}


def spread_of(data: Mapping[str, Any]) -> tuple[Numbers, ...]:
    """How each target of a set of numbers is spread over all of it.

    Raises:
        KeyError, TypeError: ``index.json`` does not say it.
    """
    return tuple(Numbers(**one) for one in data["spread"])
