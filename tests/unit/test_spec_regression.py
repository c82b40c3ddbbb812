"""What the spec of a regression may say, and how its figures are printed."""

from __future__ import annotations

import pytest
from spec_helpers import changed

from harness.errors import SpecError
from harness.runs.figures import figure
from harness.spec import load_spec


def numbers_spec(**changes):
    data = {"train": "a.csv", "test": None} | changes.pop("data", {})
    return changed(task="image_regression", data=data, **changes)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"data": {"balance": "class_weights"}}, "data.balance"),
        ({"data": {"balance": "oversample"}}, "data.balance"),
        ({"data": {"uncertain": {}}}, "data.uncertain"),
        ({"data": {"columns": {"labels": ["a", "a"]}}}, "data.columns.labels"),
        ({"data": {"columns": {"labels": ["a"], "label": "b"}}}, "data.columns.label"),
        (
            {"data": {"features": {"image": "i", "label": "l", "multi_hot": True, "names": ["a"]}}},
            "data.features.multi_hot",
        ),
        ({"data": {"source": {"plugin": "mine"}}}, "data.source"),
        ({"training": {"label_smoothing": 0.1}}, "training.label_smoothing"),
        ({"checkpoint": {"best": {"metric": "val_r2", "mode": "min"}}}, "checkpoint.best.mode"),
        (
            {"checkpoint": {"best": {"metric": "val_price_mae", "mode": "max"}}},
            "checkpoint.best.mode",
        ),
    ],
)
def test_what_a_regression_cannot_use_is_refused(changes, path):
    with pytest.raises(SpecError) as caught:
        load_spec(numbers_spec(**changes))
    (problem,) = caught.value.problems
    assert problem.path == path and problem.got and problem.action


@pytest.mark.parametrize(
    ("changes", "metric"),
    [
        ({}, "val_loss"),
        ({"data": {"validation": None}}, "loss"),
        ({"checkpoint": {"best": {"metric": "val_r2"}}}, "val_r2"),
    ],
)
def test_what_makes_a_checkpoint_of_a_regression_the_best(changes, metric):
    spec = load_spec(numbers_spec(**changes)).spec
    assert spec.numeric and spec.checkpoint.best.metric == metric
    assert not load_spec(changed(task="plugin:my_regression")).spec.numeric


@pytest.mark.parametrize(
    ("value", "text"), [(0.98765, "0.9877"), (0, "0.0000"), (12345.678, "12345.7"), (1e-5, "1e-05")]
)
def test_figures_are_printed_with_their_digits(value, text):
    assert figure(value) == text
