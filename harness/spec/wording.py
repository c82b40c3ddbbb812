"""Turns the validator's errors into problems in our own words.

What a place allows is read off its shape, so that the words follow the models.
"""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel

from harness.errors import Problem
from harness.spec.base import COMPLAINT, LIST, MAPPING, SCALAR, show
from harness.spec.shape import Shape, all_paths, field_names, shape_at
from harness.spec.yaml_read import Where, scalar_value

UNKNOWN_KEY = "unknown key"


def translate(model: type[BaseModel], error: Any, data: Any) -> list[tuple[Where, Problem, bool]]:
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
        # Beyond a value that was written only the names of a union's members follow.
        if not isinstance(data, dict) and not (isinstance(data, list) and isinstance(part, int)):
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
    near = nearest_key(model, where)
    if near:
        action = f"write {near}"
    else:
        elsewhere = [path for path in all_paths(model) if path.split(".")[-1] == key]
        best = min(elsewhere, key=lambda path: path.count("."), default=None)
        action = f"move it to {best}" if best else "remove it"
    return Problem(UNKNOWN_KEY, repr(key[:80]), ", ".join(names), action)


def nearest_key(model: type[BaseModel], where: Where) -> str | None:
    """The valid key that is nearest to an unknown one."""
    around = shape_at(model, where[:-1])
    names = field_names(around.model) if around and around.model else []
    return next(iter(difflib.get_close_matches(str(where[-1]), names, 1, cutoff=0.6)), None)
