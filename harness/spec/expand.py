"""What is filled in before the spec is checked: phases of a strategy, the metric of the best."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from harness.errors import Problem
from harness.spec.findings import Findings
from harness.spec.layers import DEFAULT, Origin, Tree
from harness.spec.models_training import FEATURE_EXTRACTION

DEFAULT_STRATEGY = "feature_extraction"
STRATEGIES: dict[str, list[dict[str, Any]]] = {
    "feature_extraction": [FEATURE_EXTRACTION],
}
"""Phases of each strategy that is there."""


def expand_strategy(tree: Tree, findings: Findings) -> None:
    """Replaces ``training.strategy`` by its phases.

    Of a strategy and phases the one from a higher layer wins; both from one layer is a problem.
    An unknown strategy stays, for the model to refuse.
    """
    training = tree.data.setdefault("training", {})
    if not isinstance(training, dict):
        return
    where = ("training", "strategy")
    strategy, phases = training.get("strategy"), training.get("phases")
    if strategy is None:
        if phases is None and "phases" not in training:
            _put_phases(tree, DEFAULT_STRATEGY, Origin(DEFAULT, Path.cwd()))
        training.pop("strategy", None)
        return
    origin = tree.origin(where)
    if phases is not None:
        other = tree.origin(("training", "phases"))
        assert origin is not None and other is not None, "what was written has an origin"
        if origin.label == other.label:
            what = "training.strategy and training.phases are both given"
            findings.add(where, Problem(what, action="keep one of them"), origin)
            del training["strategy"]
            return
        if other.label == "-o":
            del training["strategy"]
            return
    if isinstance(strategy, str) and strategy in STRATEGIES:
        assert origin is not None, "what was written has an origin"
        _put_phases(tree, strategy, origin)
        del training["strategy"]


def _put_phases(tree: Tree, strategy: str, origin: Origin) -> None:
    tree.put(("training", "phases"), copy.deepcopy(STRATEGIES[strategy]), origin)


def choose_best_metric(tree: Tree) -> None:
    """Without validation the best checkpoint is the one of lowest training loss."""
    data, checkpoint = tree.data.get("data"), tree.data.get("checkpoint", {})
    if not isinstance(data, dict) or "validation" not in data or data["validation"] is not None:
        return
    best = checkpoint.get("best", {}) if isinstance(checkpoint, dict) else None
    if isinstance(best, dict) and "metric" not in best:
        tree.put(("checkpoint", "best", "metric"), "loss", Origin(DEFAULT, Path.cwd()))
