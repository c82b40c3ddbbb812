"""Which way of a metric is the better one."""

from __future__ import annotations

from pathlib import Path

import pytest
from spec_helpers import MINIMAL, MINIMAL_YAML, problems, write

from harness.spec import load_spec
from harness.train.best import mode_of

MODES = [
    ("val_loss", "min"),
    ("loss", "min"),
    ("val_top_5_error", "min"),
    ("val_MAE", "min"),
    ("val_rmse", "min"),
    ("val_accuracy", "max"),
    ("val_precision", "max"),
    ("val_recall", "max"),
    ("val_f1", "max"),
    ("val_macro_auc", "max"),
    ("val_dice", None),
]


@pytest.mark.parametrize("place", ["checkpoint.best", "training.early_stopping"])
@pytest.mark.parametrize(("metric", "right"), MODES)
def test_a_mode_that_keeps_the_worst_is_refused(place: str, metric: str, right: str | None) -> None:
    for mode in ("auto", "min", "max"):
        chosen = {place: {"metric": metric, "mode": mode}}
        if mode == "auto" or right in (None, mode):
            load_spec(MINIMAL, overrides=chosen)
            continue
        (problem,) = problems(MINIMAL, overrides=chosen)
        assert problem.path == f"{place}.mode"
        assert problem.got == mode
        assert problem.allowed == f"auto or {right}"


@pytest.mark.parametrize(("metric", "right"), MODES)
def test_auto_is_what_the_trainer_takes_it_for(metric: str, right: str | None) -> None:
    assert mode_of(metric, "auto") == (right or "max")


@pytest.mark.parametrize(
    "override", ["checkpoint.best={metric: val_loss}", "checkpoint.best.metric=val_loss"]
)
def test_another_metric_does_not_keep_the_mode_of_the_first(tmp_path: Path, override: str) -> None:
    best = "checkpoint: {best: {metric: val_accuracy, mode: %s}}\n"
    job = write(tmp_path, MINIMAL_YAML + best % "max")
    (problem,) = problems(job, overrides=[override])
    assert (problem.path, problem.allowed) == ("checkpoint.best.mode", "auto or min")
    job = write(tmp_path, MINIMAL_YAML + best % "auto")
    chosen = load_spec(job, overrides=[override]).spec.checkpoint.best
    assert mode_of(chosen.metric, chosen.mode) == "min"
