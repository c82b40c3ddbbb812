"""What the tests on a cluster share beside it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.serving import require_packages
from tests.container_image import Building, Image, have_tools, need_tools
from tests.local.training_helpers import write_spec


@pytest.hookimpl(trylast=True)  # after pytest has brought together what one cluster serves
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the container come last on their cluster: the image is built meanwhile."""
    ours = [item for item in items if "image" in getattr(item, "fixturenames", ())]
    if not ours:
        return
    others = [item for item in items if item not in ours]
    usual = [at for at, item in enumerate(others) if item.name.endswith("[default]")]
    at = usual[-1] + 1 if usual else len(others)
    items[:] = [*others[:at], *ours, *others[at:]]


@pytest.fixture(scope="session", autouse=True)
def _building(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Building | None]:
    """The image on its way, begun with the first test if one of them needs it."""
    wanted = any("image" in getattr(item, "fixturenames", ()) for item in request.session.items)
    if not (wanted and have_tools()):
        yield None
        return
    with Building(tmp_path_factory.mktemp("image")) as building:
        yield building


@pytest.fixture(scope="session")
def image(_building: Building | None) -> Image:
    """The built image of containers/Dockerfile."""
    need_tools()
    assert _building is not None, "the tools are there"
    return _building.image()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A path for a cluster's folder, short enough for the sockets in it, removed at the end."""
    require_packages()
    parent = Path(tempfile.mkdtemp(prefix="harness-cluster-"))
    yield parent / "c"
    shutil.rmtree(parent)


@pytest.fixture
def spec(
    tmp_path: Path, write_pictures: Callable[..., Path], tiny_backbone: Path
) -> Callable[..., str]:
    """Writes a spec that is trained within seconds, and gives its path."""
    write_pictures(tmp_path / "data" / "train", ["blue", "green", "red"], 8)
    write_pictures(tmp_path / "data" / "test", ["blue", "green", "red"], 4)

    def write(folder: Path = tmp_path, **changes: Any) -> str:
        more = {"cluster.partition": "low", "cluster.cpus_per_rank": 1, **changes}
        return str(write_spec(folder, tiny_backbone, tmp_path / "data", **more))

    return write
