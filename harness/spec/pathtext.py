"""Paths in a spec: `~`, `$VAR` and `${VAR}` expanded, relative ones made absolute."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.errors import Problem
from harness.spec.base import IsPath, show
from harness.spec.findings import Findings
from harness.spec.handles import split_handle
from harness.spec.layers import Tree
from harness.spec.shape import model_shape, walk

_VARIABLE = re.compile(r"\$(?:(\$)|([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\}|)")


class Undefined(Exception):
    """A path names a variable that the environment does not have."""


def expand_paths(model: type[BaseModel], tree: Tree, findings: Findings) -> None:
    """Makes every path in the tree absolute, each from the folder of where it was written.

    Values that are no text are left for the model to refuse.
    """
    for where, value, shape in list(walk(model_shape(model), tree.data)):
        if shape.path is None or not isinstance(value, str) or not value.strip():
            continue
        origin = tree.origin(where)
        assert origin is not None, "every value of a tree has an origin"
        try:
            node: Any = tree.data
            for key in where[:-1]:
                node = node[key]
            node[where[-1]] = absolute(value, shape.path, origin.base)
        except (Undefined, ValueError, RuntimeError) as error:
            problem = Problem(str(error), show(value), action="correct the path, or set the value")
            findings.add(where, problem, origin)


def absolute(text: str, kind: IsPath, base: Path) -> str:
    """The text with its path part, if it has one, made absolute."""
    head, path = split_path(text, kind)
    if path is None:
        return text
    expanded = _variables(path)
    if expanded.startswith("~"):
        expanded = str(Path(expanded).expanduser())
    if "\0" in expanded:
        raise ValueError("a path cannot hold a NUL character")
    return head + os.path.normpath(base / expanded)


def escaped(text: str, kind: IsPath) -> str:
    """An absolute path text as it must be written so that reading it expands nothing."""
    head, path = split_path(text, kind)
    return text if path is None else head + path.replace("$", "$$")


def split_path(text: str, kind: IsPath) -> tuple[str, str | None]:
    """(what stands before the path, the path); the path is None where there is none."""
    endings = {"plugin": (".py",), "site": (".yaml", ".yml")}.get(kind.kind)
    if endings is not None:
        return "", text if "/" in text or text.endswith(endings) else None
    if kind.kind == "image" and re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        return "", None
    if kind.kind == "weights" and text in ("imagenet", "random"):
        return "", None
    if kind.kind == "stage" and "/" not in text and not text.startswith(("~", "$")):
        return "", None
    return split_handle(text) if kind.kind == "handle" else ("", text)


def _variables(text: str) -> str:
    def value(match: re.Match[str]) -> str:
        if match.group(1):
            return "$"
        name = match.group(2) or match.group(3)
        if name is None:
            return "$"
        if name not in os.environ:
            raise Undefined(f"the environment variable {name} is not set")
        return os.environ[name]

    return _VARIABLE.sub(value, text)
