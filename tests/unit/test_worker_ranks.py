"""How long ranks wait for one another, as the environment says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.distribute.members import Member
from harness.errors import EnvironmentNotAble, TrainingError
from harness.worker.attempt import with_first
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


def test_an_error_that_rank_0_did_not_live_to_hear_names_it() -> None:
    members = [Member(rank, "n1", "n1", 7 + rank, "127.0.0.1", {}) for rank in range(2)]
    broken, own = TrainingError("a collective broke"), OSError("reset by peer")
    alone: Any = SimpleNamespace(noted=False, members=members)
    told = with_first(broken, own, alone)
    assert "rank 0" in str(told)
    assert "a collective broke" in str(told)
    assert told.exit_code == broken.exit_code
    heard: Any = SimpleNamespace(noted=True, members=members)
    one: Any = SimpleNamespace(noted=False, members=())
    for ranks, error in ((heard, own), (one, own), (alone, broken)):
        assert with_first(broken, error, ranks) is broken
