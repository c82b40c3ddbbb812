"""The docs of every field, taken from the docstrings under the fields.

They are read from the source when asked for, not when the models are made: validating a spec
needs none of them.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.errors import UsageError
from harness.spec.dump import flow
from harness.spec.models import Spec
from harness.spec.resume import Resume, resume_class
from harness.spec.shape import Shape, all_paths, fields, shape_at
from harness.spec.support import rule

REQUIRED = "required"


@dataclass(frozen=True)
class FieldDoc:
    """One field of the spec."""

    path: str
    """Dotted path; an item of a list is `[]` (`training.phases[].epochs`)."""
    type: str
    """What it takes, in words."""
    default: str
    """Default in YAML, `required`, or empty for a group of fields."""
    doc: str
    """What it means, with its unit."""
    resume: Resume
    """Whether it may change on resume: free, extend or never."""
    supported: bool
    """False where any value but the default is refused as not supported yet."""
    so_far: str
    """The values that are supported so far, in words; empty where all are."""


@functools.cache
def class_docs(model: type[BaseModel]) -> dict[str, str]:
    """The docstring under each field of a model, by attribute name, on one line."""
    found: dict[str, str] = {}
    for base in model.__bases__:
        if issubclass(base, BaseModel) and base.model_fields:
            found |= class_docs(base)
    tree = _module_tree(model.__module__)
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name != model.__name__:
            continue
        for first, second in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(first, ast.AnnAssign)
                and isinstance(first.target, ast.Name)
                and isinstance(second, ast.Expr)
                and isinstance(second.value, ast.Constant)
                and isinstance(second.value.value, str)
            ):
                found[first.target.id] = " ".join(second.value.value.split())
    return found


@functools.cache
def _module_tree(name: str) -> ast.Module:
    file = inspect.getsourcefile(importlib.import_module(name))
    assert file is not None, "the models come from files"
    return ast.parse(Path(file).read_text(encoding="utf-8"))


@functools.cache
def _documented(model: type[BaseModel]) -> tuple[FieldDoc, ...]:
    return tuple(_field_doc(model, path) for path in all_paths(model))


def field_docs(model: type[BaseModel] = Spec) -> list[FieldDoc]:
    """Every field of the spec (or of another model of this room), in the spec's order."""
    return list(_documented(model))


def field_doc(path: str) -> FieldDoc:
    """The doc of one field of the spec; positions in lists may be given as numbers.

    Raises:
        UsageError: the spec has no such field.
    """
    wanted = re.sub(r"\.(\d+|\*)(?=\.|$)|\[\d+\]", "[]", path).removesuffix("[]")
    docs = {doc.path: doc for doc in field_docs()}
    if wanted in docs:
        return docs[wanted]
    near = difflib.get_close_matches(wanted, docs, 3)
    raise UsageError(
        "the spec has no such field",
        got=repr(path[:100]),
        allowed=", ".join(near) or None,
        action="see `harness schema` for all fields",
    )


def owner(model: type[BaseModel], path: str) -> tuple[type[BaseModel], str]:
    """The model that holds the field at a path, and its key there."""
    *around, key = path.replace("[]", ".0").split(".")
    where = tuple(int(part) if part.isdigit() else part for part in around)
    shape = shape_at(model, where)
    assert shape is not None and shape.model is not None, f"{path} is no field"
    return shape.model, key


def _field_doc(model: type[BaseModel], path: str) -> FieldDoc:
    holder, key = owner(model, path)
    info = fields(holder)[key]
    attribute = next(name for name, held in holder.model_fields.items() if held is info)
    shape = shape_at(holder, (key,))
    assert shape is not None, f"{path} is no field"
    default = REQUIRED if info.is_required() else default_text(holder, key)
    if _group(shape):
        default = ""
    so_far = _so_far(path) if model is Spec else ""
    return FieldDoc(
        path=path,
        type=type_words(shape),
        default=default,
        doc=class_docs(holder).get(attribute, ""),
        resume=resume_class(path) if model is Spec else "free",
        supported=not so_far or (so_far not in (default, "null") and ": " not in so_far),
        so_far=so_far,
    )


def _so_far(path: str) -> str:
    """What is supported of a field, in words; empty where all of it is."""
    own = path.replace("[]", ".0")
    if (found := rule(own)) is not None:
        return found[1]
    while "." in own:
        own, path = own.rpartition(".")[0], path.rpartition(".")[0]
        if (found := rule(own)) is not None:
            return f"{path}: {found[1]}"
    return ""


def _group(shape: Shape) -> bool:
    """Whether a field is only a name for the fields below it."""
    others = shape.scalars or shape.choices or shape.nullable or shape.item or shape.value
    return shape.model is not None and not others


def type_words(shape: Shape) -> str:
    """What a field takes; a mapping's fields are documented on their own, so not listed."""
    if _group(shape):
        return "group"
    return shape.words(brief=True)


def default_value(model: type[BaseModel], key: str) -> Any:
    """The default of a field as plain data."""
    value = fields(model)[key].get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, tuple):
        return [v.model_dump(mode="json") if isinstance(v, BaseModel) else v for v in value]
    return value if value is None or isinstance(value, bool | int | float | dict) else str(value)


def default_text(model: type[BaseModel], key: str) -> str:
    """The default of a field as it would be written in YAML."""
    return flow(default_value(model, key))


def below(path: str) -> list[FieldDoc]:
    """The docs of the fields directly below one."""
    return [
        doc
        for doc in field_docs()
        if doc.path.rpartition(".")[0].removesuffix("[]") == path.removesuffix("[]")
    ]
