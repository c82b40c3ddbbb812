"""What is filled in before the spec is checked: phases of a strategy, the metric of the best,
and what has no meaning for the kind of examples.
"""

from __future__ import annotations

import copy
from pathlib import Path

from harness.errors import Problem
from harness.spec.base import show
from harness.spec.findings import Findings
from harness.spec.layers import DEFAULT, Origin, Tree
from harness.spec.models_model import REGRESSIONS
from harness.spec.strategies import NAMES, PROGRESSIVE, phases_of

NO_PICTURES = ("text_", "audio_")
"""What the names of tasks begin with that are not about pictures."""
DEFAULT_STRATEGY = "feature_extraction"
_IMAGE_SIZE = 224
"""The default of ``data.image_size``."""


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
    if isinstance(strategy, str) and strategy in NAMES:
        assert origin is not None, "what was written has an origin"
        task = tree.data.get("task")
        if strategy == PROGRESSIVE and isinstance(task, str) and task.startswith(NO_PICTURES):
            what = f"is of pictures, and the task is {task}"
            others = ", ".join(name for name in NAMES if name != PROGRESSIVE)
            findings.add(where, Problem(what, show(strategy), others, "take another"), origin)
        else:
            _put_phases(tree, strategy, origin)
        del training["strategy"]


def _put_phases(tree: Tree, strategy: str, origin: Origin) -> None:
    data = tree.data.get("data")
    size = data.get("image_size", _IMAGE_SIZE) if isinstance(data, dict) else _IMAGE_SIZE
    # What is no size is refused where it stands.
    known = size if isinstance(size, int) and size > 0 else _IMAGE_SIZE
    tree.put(("training", "phases"), copy.deepcopy(phases_of(strategy, known)), origin)


def fill_in(tree: Tree, findings: Findings) -> None:
    """Values that nobody wrote and that others decide."""
    choose_best_metric(tree)
    leave_out_other_media(tree, findings)


def leave_out_other_media(tree: Tree, findings: Findings) -> None:
    """Fields that mean nothing to the examples of the task are null.

    That somebody wrote a size of pictures is a problem, which is told here: taken out of the tree
    as other wrong values are, it would only come back as the default.
    """
    task, data = tree.data.get("task"), tree.data.get("data")
    if not isinstance(task, str) or not task.startswith(NO_PICTURES) or not isinstance(data, dict):
        return
    size = data.get("image_size")
    if size is not None:
        what = f"is of pictures, and the task is {task}"
        where = ("data", "image_size")
        findings.add(where, Problem(what, show(size), "null", "remove it"), tree.origin(where))
    if size is not None or "image_size" not in data:
        tree.put(("data", "image_size"), None, Origin(DEFAULT, Path.cwd()))
    columns = data.get("columns")
    if isinstance(columns, dict) and columns.get("text") is not None and "path" not in columns:
        tree.put(("data", "columns", "path"), None, Origin(DEFAULT, Path.cwd()))


def choose_best_metric(tree: Tree) -> None:
    """Without validation the best checkpoint is the one of lowest training loss, and a regression
    has no accuracy to go by."""
    data, checkpoint = tree.data.get("data"), tree.data.get("checkpoint", {})
    best = checkpoint.get("best", {}) if isinstance(checkpoint, dict) else None
    if not isinstance(data, dict) or not isinstance(best, dict) or "metric" in best:
        return
    if "validation" in data and data["validation"] is None:
        metric = "loss"
    elif tree.data.get("task") in REGRESSIONS:
        metric = "val_loss"
    else:
        return
    tree.put(("checkpoint", "best", "metric"), metric, Origin(DEFAULT, Path.cwd()))
