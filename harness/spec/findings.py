"""Checks data against a model and says everything that is wrong, in our own words.

A validator stops looking at a model once one of its fields is wrong.  So that all problems are
reported at once, wrong values are taken out (or a missing one is filled in) and the rest is
checked again, until nothing new is found.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import Problem
from harness.spec.layers import Origin, Tree, dotted
from harness.spec.shape import Shape, shape_at
from harness.spec.wording import UNKNOWN_KEY, nearest_key, translate
from harness.spec.yaml_read import Where

M = TypeVar("M", bound=BaseModel)
_ROUNDS = 30
# More problems than anybody reads; these keep hostile input from taking minutes.
_AT_ONCE = 100
_ENOUGH = 200
_MISSING = object()


@dataclass
class Findings:
    """Problems found so far, and the places that need no second word."""

    problems: list[Problem] = field(default_factory=list)
    places: set[Where] = field(default_factory=set)

    def add(self, where: Where, problem: Problem, origin: Origin | None) -> None:
        """Keeps a problem of a place, unless a round before named the place or one around it."""
        file, line = (origin.option or origin.file, origin.line) if origin else (None, None)
        self.problems.append(
            Problem(
                problem.what,
                problem.got,
                problem.allowed,
                problem.action,
                path=problem.path or dotted(where),
                file=file,
                line=line,
            )
        )
        self.places.add(where)

    def known(self, where: Where) -> bool:
        """Whether this place, one in it or one around it was already named."""
        return any(_related(where, place) for place in self.places)

    def sorted(self) -> list[Problem]:
        """All problems, those of one file by line."""
        order = {problem.file: position for position, problem in enumerate(self.problems[::-1])}
        return sorted(self.problems, key=lambda p: (-order[p.file], p.line or 0))


def _related(one: Where, other: Where) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def check(model: type[M], tree: Tree, findings: Findings) -> M | None:
    """The model made of the tree's data; what is wrong goes into ``findings``.

    Returns:
        The model, made of what is left when wrong values are taken out, or None when nothing
        sensible is left.
    """
    work = copy.deepcopy(tree.data)
    repaired: set[Where] = set(findings.places)
    filled: set[Where] = set()
    for _ in range(_ROUNDS):
        try:
            return model.model_validate(work)
        except ValidationError as error:
            before = findings.known
            news = [
                found
                for part in error.errors(include_url=False)[:_AT_ONCE]
                for found in translate(model, part, work)
            ]
        known = {where for where, _, _ in news if before(where)} | _misspelled(model, news)
        for where, problem in {(where, problem): None for where, problem, _ in news}:
            # The members of a union each complain of the same value in the same words.
            if where not in known and where not in repaired:
                findings.add(where, problem, tree.origin(where))
        enough = len(findings.problems) >= _ENOUGH
        if enough or not _repair(model, work, news, repaired, filled):
            return None
    return None


def _repair(
    model: type[BaseModel],
    work: Any,
    news: list[Any],
    repaired: set[Where],
    filled: set[Where],
) -> bool:
    """Takes wrong values out of ``work``, fills missing ones; says whether anything changed."""
    changed = False
    for where, _, missing in news:
        if missing and where not in filled:
            filled.add(where)
            repaired.add(where)
            changed |= _fill(model, work, where)
            continue
        place = where
        while place and (place in repaired and _get(work, place) is _MISSING):
            place = place[:-1]
        # Taking an item out would move the ones behind it, so the whole list goes.
        while place and isinstance(place[-1], int):
            place = place[:-1]
        repaired.update((where, place))
        if place and _get(work, place) is not _MISSING:
            del _get(work, place[:-1])[place[-1]]
            changed = True
    return changed


def _misspelled(model: type[BaseModel], news: list[Any]) -> set[Where]:
    """Places that are missing only because their key is misspelled, which is said already."""
    missing = {where for where, _, is_missing in news if is_missing}
    wrong = [where for where, problem, _ in news if problem.what == UNKNOWN_KEY]
    return {(*where[:-1], near) for where in wrong if (near := nearest_key(model, where))} & missing


def _fill(model: type[BaseModel], work: Any, where: Where) -> bool:
    shape, around = shape_at(model, where), _get(work, where[:-1])
    if shape is None or not isinstance(around, dict):
        return False
    around[where[-1]] = _stand_in(shape, len(repr(where)))
    return True


def _stand_in(shape: Shape, number: int) -> Any:
    if shape.choices:
        return shape.choices[0]
    if shape.scalars:
        return {int: 1, float: 0.001}.get(shape.scalars[0], f"missing-{number}")
    return [] if shape.item is not None else {}


def _get(data: Any, where: Where) -> Any:
    for key in where:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return _MISSING
    return data
