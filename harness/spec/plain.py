"""Plain data from what a Python caller gave: what a YAML file could hold, and nothing else."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import Problem
from harness.spec.findings import Findings
from harness.spec.layers import Origin
from harness.spec.yaml_read import MAX_DEPTH, Where


def plain(value: Any, where: Where, findings: Findings, origin: Origin | None = None) -> Any:
    """The value made of mappings, lists, texts, numbers, booleans and None.

    Paths become texts, tuples lists, and numbers of other libraries Python's own; anything else
    becomes None and a problem.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | Path):
        text = str(value)
        if _is_text(text):
            return text
        findings.add(where, Problem("is not text that a file can hold"), origin)
        return None
    if len(where) > MAX_DEPTH:
        findings.add(where, Problem(f"nested deeper than {MAX_DEPTH} levels"), origin)
        return None
    if isinstance(value, Mapping):
        items = ((str(key), inner) for key, inner in value.items())
        return {key: plain(inner, (*where, key), findings, origin) for key, inner in items}
    if isinstance(value, list | tuple):
        return [plain(v, (*where, i), findings, origin) for i, v in enumerate(value)]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    problem = Problem(
        "is not a plain value",
        got=f"a value of type {type(value).__name__}",
        allowed="text, numbers, true, false, null, lists and mappings",
        action="convert it",
    )
    findings.add(where, problem, origin)
    return None


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
