"""Fields whose machinery is not there yet: refused by name, never silently ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.errors import Problem
from harness.spec.base import show
from harness.spec.findings import Findings
from harness.spec.layers import Tree, dotted
from harness.spec.models import Spec
from harness.spec.shape import model_shape, walk

Test = Callable[[Any], bool]


def _only(*values: Any) -> tuple[Test, str]:
    return lambda value: value in values, ", ".join(show(v).strip("'") for v in values)


_NULL = _only(None)
# `*` is any position of a list, or at the end any field that is not named itself.
# None, or no entry: all is supported.
NOT_YET: dict[str, tuple[Test, str] | None] = {
    "logging.profile": _NULL,
    "logging.histograms": _only(False),
    "sweep": _NULL,
}


def rule(path: str) -> tuple[Test, str] | None:
    """(test of a value, words for what is allowed) of a field, or None: all is supported."""
    pattern = ".".join("*" if part.isdigit() else part for part in path.split("."))
    if pattern in NOT_YET:
        return NOT_YET[pattern]
    return NOT_YET.get(pattern.rpartition(".")[0] + ".*")


def check_supported(spec: Spec, tree: Tree, findings: Findings) -> None:
    """Adds a problem for every value whose machinery is not there.

    What the site or the user config gives for a whole cluster is no wish of this spec: it has
    a use once a job is submitted, so only the spec and ``-o`` are held to it.
    """
    data = spec.model_dump(mode="json", by_alias=True)
    for where, value, _ in walk(model_shape(Spec), data):
        found = rule(dotted(where) or "")
        # A refused group is one problem, not one for each field in it.
        if found is None or found[0](value) or findings.known(where):
            continue
        origin = tree.origin(where)
        if origin is not None and origin.label.startswith(("site ", "user config")):
            continue
        problem = Problem("not supported yet", show(value), found[1], "remove it or change it")
        findings.add(where, problem, origin)
