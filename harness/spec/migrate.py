"""Brings specs of older versions to the present form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.errors import Problem
from harness.spec.base import show
from harness.spec.findings import Findings
from harness.spec.layers import Tree

VERSION = 1
"""The version of the spec's form that the models describe."""

MIGRATIONS: dict[int, Callable[[Tree], None]] = {}
"""From a version to the next one: changes the tree in place, with `put`, so that lines stay."""


def migrate(tree: Tree, findings: Findings) -> None:
    """Brings the tree from its own version to :data:`VERSION`.

    A version that is newer, unknown or no number becomes a problem; a missing one is left for
    the model to report.
    """
    where = ("harness_spec",)
    if "harness_spec" not in tree.data:
        return
    version: Any = tree.data["harness_spec"]
    known = [*sorted(MIGRATIONS), VERSION]
    allowed = ", ".join(str(number) for number in known)
    if isinstance(version, bool) or not isinstance(version, int) or version not in known:
        newer = isinstance(version, int) and not isinstance(version, bool) and version > VERSION
        what = "the spec is of a newer version" if newer else "is not a version of the spec"
        action = "install a newer harness" if newer else f"write {VERSION}"
        findings.add(where, Problem(what, show(version), allowed, action), tree.origin(where))
        # What the present form does not know is still reported beside it.
        tree.data["harness_spec"] = VERSION
        return
    while version < VERSION:
        origin = tree.origin(where)
        assert origin is not None, "what was written has an origin"
        MIGRATIONS[version](tree)
        version += 1
        tree.put(where, version, origin)
