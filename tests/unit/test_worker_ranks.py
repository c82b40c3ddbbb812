"""How long ranks wait for one another, as the environment says."""

from __future__ import annotations

import pytest

from harness.errors import EnvironmentNotAble
from harness.worker.ranks import meeting_seconds


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [({}, 300.0), ({"HARNESS_MEETING_S": "5"}, 5.0), ({"HARNESS_MEETING_S": "0.5"}, 0.5)],
)
def test_seconds(environment: dict[str, str], seconds: float) -> None:
    assert meeting_seconds(environment) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-3", "nan", "inf"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(EnvironmentNotAble, match="HARNESS_MEETING_S is no time"):
        meeting_seconds({"HARNESS_MEETING_S": text})
