"""``-o a.b=c``: values from the command line or from Python, typed by the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.errors import Problem, SpecError
from harness.spec.base import show
from harness.spec.findings import Findings
from harness.spec.layers import Origin, Tree, dotted
from harness.spec.plain import plain
from harness.spec.shape import Shape, model_shape, shape_at, step
from harness.spec.yaml_read import Where, parse_yaml

Setting = tuple[Where, Any, Origin]
"""One place to set, its value, and where that came from."""


def read_overrides(
    model: type[BaseModel],
    overrides: Sequence[str] | Mapping[str, Any],
    findings: Findings,
) -> list[Setting]:
    """The places that overrides set, in order; what cannot be read goes into ``findings``.

    A text is ``path=value`` with the value in YAML (``[64, 32]``, ``{fraction: 0.2}``, ``null``).
    Where the schema takes only text the value is taken as it stands, so ``name=2026`` is a name.
    A mapping sets the fields it names, anything else replaces what was there.
    """
    base = Path.cwd()
    settings: list[Setting] = []
    if isinstance(overrides, Mapping):
        origin = Origin("-o", base)
        for key, value in overrides.items():
            where = _where(str(key))
            kept = plain(value, where, findings, origin)
            settings += _spread(model, where, kept, origin)
        return settings
    for text in [overrides] if isinstance(overrides, str) else overrides:
        key, equals, written = text.partition("=")
        shown = f"-o {text if len(text) <= 80 else text[:77] + '...'}"
        shown = shown if shown.isprintable() else repr(shown)
        if not equals or not key.strip():
            what, action = "is not a setting", "write -o FIELD=VALUE"
            findings.problems.append(
                Problem(what, show(text), "as training.seed=2", action, file="-o")
            )
            continue
        where, origin = _where(key.strip()), Origin("-o", base, option=shown)
        try:
            value = _typed(shape_at(model, where), written, shown)
        except SpecError as error:
            findings.problems += error.problems
            continue
        settings += _spread(model, where, value, origin)
    return settings


def apply_setting(model: type[BaseModel], tree: Tree, setting: Setting, findings: Findings) -> None:
    """Puts one setting into the tree; a list position that does not exist is a problem."""
    where, value, origin = setting
    node: Any = tree.data
    for position, key in enumerate(where):
        if isinstance(node, list):
            if not isinstance(key, int) or not 0 <= key < len(node):
                allowed = f"0 to {len(node) - 1}" if node else "nothing, the list is empty"
                problem = Problem("no such position in the list", show(key), allowed, "correct it")
                findings.add(where[: position + 1], problem, origin)
                return
            node = node[key]
        elif isinstance(node, dict):
            node = node.get(str(key))
        else:
            break
    keys = tuple(key if _in_list(tree.data, where[:n]) else str(key) for n, key in enumerate(where))
    tree.put(keys, value, origin)


def _in_list(data: Any, where: Where) -> bool:
    for key in where:
        if isinstance(data, list) and isinstance(key, int):
            data = data[key]
        elif isinstance(data, dict):
            data = data.get(str(key))
        else:
            return False
    return isinstance(data, list)


def _where(key: str) -> Where:
    parts = key.replace("[", ".").replace("]", "").split(".")
    return tuple(int(p) if p.isascii() and p.isdigit() and len(p) < 10 else p for p in parts)


def _typed(shape: Shape | None, written: str, shown: str) -> Any:
    document = parse_yaml(written, shown, one_line=True)
    if document.problems:
        raise SpecError(document.problems)
    value = document.data
    if shape is None or not shape.only_text or isinstance(value, str | list | dict):
        return value
    if value is None and (shape.nullable or not written.strip()):
        return None
    return written.strip()


def _spread(model: type[BaseModel], where: Where, value: Any, origin: Origin) -> list[Setting]:
    """A mapping onto a model becomes one setting for each field it names."""
    shape: Shape | None = model_shape(model)
    for key in where:
        shape = step(shape, key)
    if isinstance(value, dict) and value and shape is not None and shape.model is not None:
        return [
            setting
            for key, inner in value.items()
            for setting in _spread(model, (*where, *_where(str(key))), inner, origin)
        ]
    return [(where, value, origin)]


def setting_name(setting: Setting) -> str:
    """The dotted path that a setting sets."""
    return dotted(setting[0]) or ""
