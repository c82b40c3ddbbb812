"""Reasons against an exact resume: of the rank that writes them and of those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs_helpers import make_run

from harness.errors import SpecError
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.worker.exactness import Exactness


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return make_run(tmp_path, not_exact_because=[])


@pytest.mark.parametrize("writes", [True, False])
def test_each_reason_is_said_once(paths: RunPaths, writes: bool) -> None:
    said: list[str] = []
    exactness = Exactness(paths if writes else None, False, said.append)
    before = paths.record.read_bytes()
    exactness.not_exact([])
    exactness.not_exact(["a", "b"])
    exactness.not_exact(["b"])
    exactness.not_exact(["b", "c"])
    assert said == [
        "a resume of this run will not be exact: a; b",
        "a resume of this run will not be exact: c",
    ]
    if writes:
        assert read_record(paths)["not_exact_because"] == ["a", "b", "c"]
        assert read_record(paths)["exact"] is False
    else:
        assert paths.record.read_bytes() == before


def test_the_next_attempt_knows_what_the_record_says(paths: RunPaths) -> None:
    Exactness(paths, False, lambda text: None).not_exact(["a"])
    said: list[str] = []
    Exactness(paths, False, said.append).not_exact(["a", "b"])
    assert said == ["a resume of this run will not be exact: b"]
    assert read_record(paths)["not_exact_because"] == ["a", "b"]


@pytest.mark.parametrize("writes", [True, False])
def test_all_ranks_refuse_where_it_must_be_deterministic(paths: RunPaths, writes: bool) -> None:
    said: list[str] = []
    exactness = Exactness(paths if writes else None, True, said.append)
    with pytest.raises(SpecError, match=r"cannot be repeated, got a; b.*deterministic: false"):
        exactness.not_exact(["a", "b"])
    assert not said
