"""What all faults happen to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.world import World
from tests.horovod_here import need_horovod
from tests.local.training_helpers import CLASSES

Make = Callable[[Path], World]


@pytest.fixture(scope="session")
def make(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_backbone: Path,
    write_pictures: Callable[..., Path],
) -> Make:
    """``make(folder)``: what happens in that folder."""
    data = tmp_path_factory.mktemp("data")
    # 17 + 17 + 17: neither lanes nor batches come out even.
    write_pictures(data / "train", CLASSES, 17, 16)
    return lambda folder: World(folder, tiny_backbone, data)


@pytest.fixture
def world(tmp_path: Path, make: Make) -> World:
    """A folder in which one fault happens."""
    need_horovod("gloo")
    return make(tmp_path)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, make: Make) -> Path:
    """The run of two ranks to which nothing happens."""
    need_horovod("gloo")
    world = make(tmp_path_factory.mktemp("undisturbed"))
    world.spec()
    world.finish()
    return world.run
