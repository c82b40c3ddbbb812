"""What may stand at a place of the spec, read off the models' type hints.

One description serves overrides (typing a value), error messages (what is allowed), path
expansion, docs and the table of sources, so that they cannot disagree with the models.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.spec.base import IsPath, Words
from harness.spec.duration import Duration

_NUMBERS = {int: "a whole number", float: "a number"}
_WORDS = {bool: "true or false", str: "text", type(None): "null"}


@dataclass
class Shape:
    """What a field takes: the union of its members, each None or empty when not taken."""

    model: type[BaseModel] | None = None
    item: Shape | None = None  # of a list or tuple of any length
    length: int | None = None  # of a tuple of fixed length
    value: Shape | None = None  # of a free mapping
    scalars: list[type] = field(default_factory=list)
    choices: list[Any] = field(default_factory=list)
    nullable: bool = False
    path: IsPath | None = None
    said: list[str] = field(default_factory=list)  # words given beside the type
    bounds: dict[str, Any] = field(default_factory=dict)
    anything: bool = False

    def words(self, *, brief: bool = False) -> str:
        """What is allowed, for error messages and docs; ``brief`` does not list keys."""
        if self.anything:
            return "any plain value"
        parts = [str(choice) for choice in self.choices]
        parts += list(self.said)
        if not self.said:
            parts += [self._scalar_words(kind) for kind in self.scalars]
        if self.model is not None:
            keys = "" if brief else " of " + ", ".join(field_names(self.model))
            parts.append(getattr(self.model, "written", "") or "a mapping" + keys)
        if self.item is not None:
            count = "" if self.length is None else f"{self.length} of "
            parts.append(f"a list of {count}({self.item.words(brief=brief)})")
        if self.value is not None:
            parts.append("a mapping")
        if self.nullable:
            parts.append("null")
        return ", ".join(parts) if self.choices and len(parts) > 1 else " or ".join(parts)

    def _scalar_words(self, kind: type) -> str:
        if kind not in _NUMBERS:
            return _WORDS.get(kind, kind.__name__)
        signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
        limits = [f"{sign} {self.bounds[key]}" for key, sign in signs.items() if key in self.bounds]
        return " ".join([_NUMBERS[kind], " and ".join(limits)]).strip()

    @property
    def only_text(self) -> bool:
        """Whether every scalar it takes is written as text."""
        texts = bool(self.scalars or self.choices) and not self.anything
        return (
            texts
            and all(kind in (str, Duration) for kind in self.scalars)
            and all(isinstance(choice, str) for choice in self.choices)
        )


@functools.cache
def model_shape(model: type[BaseModel]) -> Shape:
    """The shape of a whole model."""
    return Shape(model=model)


@functools.cache
def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by their YAML keys."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def field_names(model: type[BaseModel]) -> list[str]:
    """YAML keys of a model, in the order of its definition."""
    return list(fields(model))


@functools.cache
def field_shape(model: type[BaseModel], key: str) -> Shape | None:
    """The shape of one field, or None if the model has no such key."""
    info = fields(model).get(key)
    if info is None:
        return None
    shape = Shape()
    _add(shape, info.annotation, info.metadata)
    return shape


def step(shape: Shape | None, key: str | int) -> Shape | None:
    """The shape one level down, or None where nothing is allowed or known."""
    if shape is None:
        return None
    if shape.model is not None and isinstance(key, str):
        found = field_shape(shape.model, key)
        if found is not None:
            return found
    if shape.item is not None and isinstance(key, int):
        return shape.item
    if shape.value is not None and isinstance(key, str):
        return shape.value
    return shape if shape.anything else None


def shape_at(model: type[BaseModel], where: tuple[str | int, ...]) -> Shape | None:
    """The shape at a place of a model's data, or None where nothing is known."""
    shape: Shape | None = model_shape(model)
    for key in where:
        shape = step(shape, key)
    return shape


def walk(shape: Shape | None, data: Any, where: tuple[str | int, ...] = ()) -> Iterator[Any]:
    """Every (place, value, shape) in ``data``, outermost first; unknown places are left out."""
    if shape is None:
        return
    yield where, data, shape
    if isinstance(data, dict):
        for key, value in list(data.items()):
            yield from walk(step(shape, key), value, (*where, key))
    elif isinstance(data, list):
        for position, value in enumerate(list(data)):
            yield from walk(step(shape, position), value, (*where, position))


@functools.cache
def all_paths(model: type[BaseModel], prefix: str = "") -> tuple[str, ...]:
    """Dotted paths of all fields, each followed by those below it.

    A list's item is ``[]``, a key of a free mapping is ``NAME``.
    """
    found: list[str] = []
    for key in fields(model):
        path = f"{prefix}.{key}" if prefix else key
        found.append(path)
        shape = field_shape(model, key)
        assert shape is not None, "a model's own field has a shape"
        if shape.model is not None:
            found += all_paths(shape.model, path)
        elif shape.item is not None and shape.item.model is not None:
            found += all_paths(shape.item.model, path + "[]")
        elif shape.value is not None and shape.value.model is not None:
            found += all_paths(shape.value.model, path + ".NAME")
    return tuple(found)


def leaves(model: type[BaseModel], data: Mapping[str, Any]) -> dict[tuple[str | int, ...], Any]:
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


def _in_leaf(model: type[BaseModel], where: tuple[str | int, ...]) -> bool:
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


def _add(shape: Shape, annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> None:
    """Adds one member of a union, with the marks that stand beside it."""
    for mark in metadata:
        if isinstance(mark, Words):
            shape.said.append(mark.text)
        elif isinstance(mark, IsPath):
            shape.path = mark
        elif isinstance(mark, FieldInfo):
            _add(shape, None, mark.metadata)
        else:
            for kind, name in ((Ge, "ge"), (Gt, "gt"), (Le, "le"), (Lt, "lt")):
                if isinstance(mark, kind):
                    shape.bounds[name] = getattr(mark, name)
    origin = get_origin(annotation)
    if annotation is None:
        return
    if origin is Annotated:
        inner, *marks = get_args(annotation)
        _add(shape, inner, marks)
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            _add(shape, member)
    elif origin is Literal:
        shape.choices += get_args(annotation)
    elif origin is tuple:
        _add_tuple(shape, get_args(annotation))
    elif origin is dict:
        shape.value = _made(get_args(annotation)[1])
    elif annotation is Any:
        shape.anything = True
    elif annotation is type(None):
        shape.nullable = True
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        shape.model = annotation
    else:
        shape.scalars.append(annotation)


def _add_tuple(shape: Shape, members: tuple[Any, ...]) -> None:
    shape.item = _made(members[0])
    shape.length = None if members[-1] is Ellipsis else len(members)


def _made(annotation: Any) -> Shape:
    shape = Shape()
    _add(shape, annotation)
    return shape
