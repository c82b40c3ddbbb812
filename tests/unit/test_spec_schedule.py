"""What a schedule of the learning rate takes."""

from __future__ import annotations

from typing import Any

import pytest
from spec_helpers import changed, problems


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        ({"name": "step"}, "every"),
        ({"name": "step", "every": 0}, "every"),
        ({"name": "cosine", "every": "30%"}, "every"),
        ({"name": "plateau", "every": "30%"}, "every"),
        ({"factor": 0.5}, "factor"),
        ({"name": "step", "every": "30%", "patience": 2}, "patience"),
        ({"name": "step", "every": "30%", "metric": "loss"}, "metric"),
        ({"name": "linear", "min_delta": 0.1}, "min_delta"),
    ],
)
def test_a_schedule_takes_what_is_its_own(schedule: dict[str, Any], field: str) -> None:
    (problem,) = problems(changed(training={"schedule": schedule}))
    assert problem.path == f"training.schedule.{field}"
    assert problem.allowed


def test_a_plateau_of_validation_needs_validation() -> None:
    best = {"best": {"metric": "loss", "mode": "min"}}
    spec = changed(training={"schedule": {"name": "plateau"}}, checkpoint=best)
    spec["data"]["validation"] = None
    (problem,) = problems(spec)
    assert problem.path == "training.schedule.metric"
