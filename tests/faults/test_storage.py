"""Storage behind a network, which for a moment is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import inject
from tests.faults.conftest import Make
from tests.faults.world import World
from tests.local.rank_helpers import assert_all
from tests.local.training_helpers import assert_same_result


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, make: Make) -> Path:
    """The run of one process to which nothing happens."""
    world = make(tmp_path_factory.mktemp("alone"))
    world.spec()
    world.finish(1)
    return world.run


@pytest.mark.parametrize("what", ["data", "run"])
def test_22_files_whose_handles_are_stale(
    what: str, tmp_path: Path, make: Make, alone: Path
) -> None:
    """Of the data, and of the run: opened anew, no example and no checkpoint is lost."""
    world: World = make(tmp_path)
    world.spec()
    below = {"data": world.data / "train", "run": world.run / "checkpoints"}[what]
    variables = inject.with_stale_handles(tmp_path, below, tmp_path / "stale.log")
    ended = world.train(1, **variables)
    assert_all(ended)
    assert len((tmp_path / "stale.log").read_text().splitlines()) > 3, "there were some"
    assert "corrupt" not in ended[0].err
    assert not (world.run / "corrupt.jsonl").exists()
    assert_same_result(world.run, alone)
