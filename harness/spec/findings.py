"""Checks data against a model and says everything that is wrong, in our own words.

A validator stops looking at a model once one of its fields is wrong.  So that all problems are
reported at once, wrong values are taken out (or a missing one is filled in) and the rest is
checked again, until nothing new is found.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import Problem
from harness.spec.base import COMPLAINT, LIST, MAPPING, SCALAR, show
from harness.spec.layers import Origin, Tree, dotted
from harness.spec.shape import Shape, field_names, fields, model_shape, shape_at, walk
from harness.spec.yaml_read import Where, scalar_value

M = TypeVar("M", bound=BaseModel)
_ROUNDS = 30
_MISSING = object()
_UNKNOWN = "unknown key"


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
                for part in error.errors(include_url=False)
                for found in _translate(model, part, work)
            ]
        known = {where for where, _, _ in news if before(where)} | _misspelled(model, news)
        for where, problem, _ in news:
            if where not in known and where not in repaired:
                findings.add(where, problem, tree.origin(where))
        if not _repair(model, work, news, repaired, filled):
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
    wrong = [where for where, problem, _ in news if problem.what == _UNKNOWN]
    return {(*where[:-1], near) for where in wrong if (near := _near(model, where))} & missing


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


def _translate(model: type[BaseModel], error: Any, data: Any) -> list[tuple[Where, Problem, bool]]:
    """(place, problem, whether a value is missing) of one pydantic error."""
    kind = error["type"]
    where = _place(error["loc"], data, kind)
    if kind == COMPLAINT:
        return [
            (_inside(where, c.path), Problem(c.what, c.got, c.allowed, _action(c)), False)
            for c in error["ctx"]["complaints"]
        ]
    shape = shape_at(model, where)
    if kind == "missing":
        allowed = shape.words() if shape else None
        return [(where, Problem("is missing", allowed=allowed, action="add the field"), True)]
    if kind == "extra_forbidden":
        return [(where, _unknown_key(model, where), False)]
    value = error["input"]
    if error["loc"][-1:] == ("[key]",):
        return [(where, Problem("is not a valid key", show(value), action="rename it"), False)]
    problem = Problem(
        _what(kind), show(value), shape.words() if shape else None, _next(shape, value)
    )
    return [(where, problem, False)]


def _action(complaint: Any) -> str:
    if complaint.action:
        return str(complaint.action)
    return "choose an allowed value" if complaint.allowed else "correct the value"


def _inside(where: Where, path: str) -> Where:
    parts = (int(part) if part.isdigit() else part for part in path.split("."))
    return (*where, *parts) if path else where


def _place(loc: tuple[Any, ...], data: Any, kind: str) -> Where:
    """The place that a validator's location means, without its marks for union members."""
    where: list[str | int] = []
    for part in loc:
        if part in (MAPPING, SCALAR, LIST, "[key]"):
            continue
        if not isinstance(data, dict | list):
            break
        where.append(part)
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            break
    return tuple(where)


_WHAT = {
    "literal_error": "is not a known value",
    "string_pattern_mismatch": "has the wrong form",
    "string_too_short": "is empty or too short",
    "string_too_long": "is too long",
    "too_short": "has too few items",
    "too_long": "has too many items",
    "finite_number": "must be a finite number",
    "missing_argument": "has too few items",
    "unexpected_positional_argument": "has too many items",
}


def _what(kind: str) -> str:
    if kind.startswith(("greater_than", "less_than")):
        return "is out of range"
    return _WHAT.get(kind, "is of the wrong type")


def _next(shape: Shape | None, value: Any) -> str:
    if shape is None:
        return "correct the value"
    if isinstance(value, str):
        near = difflib.get_close_matches(value, [str(c) for c in shape.choices], 1)
        if near:
            return f"write {near[0]}"
        if {int, float} & set(shape.scalars) and isinstance(scalar_value(value), int | float):
            return "write the number without quotes"
        if bool in shape.scalars:
            return "write true or false"
    if shape.only_text and isinstance(value, bool | int | float):
        return "write it in quotes if this is the text you mean"
    if value is None and not shape.nullable:
        return "give a value or remove the line"
    return "choose an allowed value" if shape.choices else "correct the value"


def _unknown_key(model: type[BaseModel], where: Where) -> Problem:
    key = str(where[-1])
    around = shape_at(model, where[:-1])
    names = field_names(around.model) if around and around.model else []
    near = _near(model, where)
    if near:
        action = f"write {near}"
    else:
        elsewhere = [path for path in all_paths(model) if path.split(".")[-1] == key]
        action = f"move it to {elsewhere[0]}" if elsewhere else "remove it"
    return Problem(_UNKNOWN, repr(key[:80]), ", ".join(names), action)


def _near(model: type[BaseModel], where: Where) -> str | None:
    """The valid key that is nearest to an unknown one."""
    around = shape_at(model, where[:-1])
    names = field_names(around.model) if around and around.model else []
    return next(iter(difflib.get_close_matches(str(where[-1]), names, 1, cutoff=0.6)), None)


def all_paths(model: type[BaseModel]) -> list[str]:
    """Dotted paths of all fields, outer ones first; an item of a list is ``[]``."""
    found: list[str] = []
    level: list[tuple[str, Shape]] = [("", model_shape(model))]
    while level:
        below: list[tuple[str, Shape]] = []
        for prefix, shape in level:
            inner = shape.model or (shape.item.model if shape.item else None)
            mark = "" if shape.model or not prefix else "[]"
            for key in fields(inner) if inner else {}:
                path = f"{prefix}{mark}.{key}" if prefix else key
                found.append(path)
                shape_inner = shape_at(inner, (key,)) if inner else None
                if shape_inner is not None:
                    below.append((path, shape_inner))
        level = below
    return found


def leaves(model: type[BaseModel], data: Mapping[str, Any]) -> dict[Where, Any]:
    """Every value of a dumped model that holds no further fields, by place."""
    return {
        where: value
        for where, value, shape in walk(model_shape(model), data)
        if not _has_fields(value, shape) and not _in_leaf(model, where)
    }


def _has_fields(value: Any, shape: Shape) -> bool:
    if isinstance(value, dict):
        return shape.model is not None
    if isinstance(value, list):
        return bool(value) and shape.item is not None and shape.item.model is not None
    return False


def _in_leaf(model: type[BaseModel], where: Where) -> bool:
    """Whether a place lies in a free mapping or a list of plain values."""
    for length in range(1, len(where)):
        shape = shape_at(model, where[:length])
        key = where[length]
        if shape is None or shape.anything:
            return True
        if isinstance(key, int):
            if shape.item is None or shape.item.model is None:
                return True
        elif shape.model is None or key not in fields(shape.model):
            return True
    return False
