"""Writes a resolved spec as YAML that reads back to an equal spec."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from harness.spec.models import Spec
from harness.spec.pathtext import escaped
from harness.spec.shape import model_shape, walk
from harness.spec.yaml_read import scalar_value

_PLAIN = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/. %+-]*(?<! )")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def dump_spec(spec: Spec) -> str:
    """The spec as YAML, every field written out."""
    data = spec.model_dump(mode="json", by_alias=True)
    for where, value, shape in list(walk(model_shape(Spec), data)):
        if shape.path is not None and isinstance(value, str):
            node: Any = data
            for key in where[:-1]:
                node = node[key]
            node[where[-1]] = escaped(value, shape.path)
    return to_yaml(data)


def to_yaml(data: Any) -> str:
    """Plain data as YAML: mappings as blocks, lists of plain values in brackets."""
    if not isinstance(data, dict) or not data:
        return flow(data) + "\n"
    return "\n".join(_block(data, "")) + "\n"


def _block(data: dict[str, Any], indent: str) -> Iterator[str]:
    for key, value in data.items():
        name = f"{indent}{_scalar(key)}:"
        if isinstance(value, dict) and value:
            yield name
            yield from _block(value, indent + "  ")
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            yield name
            for item in value:
                yield f"{indent}  - {flow(item)}"
        else:
            yield f"{name} {flow(value)}"


def flow(value: Any) -> str:
    """Plain data as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if math.isnan(value):
            return ".nan"
        if math.isinf(value):
            return ".inf" if value > 0 else "-.inf"
        return repr(value)
    if isinstance(value, int):
        return str(value)
    return text_scalar(value)


def text_scalar(text: str) -> str:
    """A text as a YAML scalar, in quotes unless it reads back as itself without them."""
    if _PLAIN.fullmatch(text) and scalar_value(text) == text and "---" not in text:
        return text
    return '"' + "".join(_escape(letter) for letter in text) + '"'


def _escape(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    code = ord(letter)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )
