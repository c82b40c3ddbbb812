"""The image of a container, before anything is queued."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.launch.container import check_image
from harness.spec import load_spec
from harness.spec.existence import check_paths
from tests.unit.container_helpers import SPEC, sif
from tests.unit.rights import needs_root

__all__ = ["sif"]  # a fixture, found by its name


def problem_of(image: Path) -> str:
    resolved = load_spec({**SPEC, "cluster": {"container": {"image": str(image)}}})
    found = [one for one in check_paths(resolved) if (one.path or "").startswith("cluster")]
    if not found:
        check_image(resolved)
        return ""
    with pytest.raises(SpecError) as caught:
        check_image(resolved)
    assert list(caught.value.problems) == found
    (one,) = found
    assert one.path == "cluster.container.image"
    assert one.action
    return one.what


def test_an_image_must_be_there_and_nobody_elses(tmp_path: Path) -> None:
    image = tmp_path / "i.sif"
    assert problem_of(image) == "cannot be found (No such file or directory)"
    image.touch(0o644)
    assert problem_of(image) == ""
    image.chmod(0o666)
    assert "others may write" in problem_of(image)
    folder = tmp_path / "folder"
    folder.mkdir(0o755)
    assert problem_of(folder) == ""
    assert problem_of(tmp_path / "i.sif" / "inside") == "cannot be found (Not a directory)"


@needs_root
def test_somebody_elses_image_is_a_strangers_program(tmp_path: Path) -> None:
    image = tmp_path / "i.sif"
    image.touch(0o644)
    os.chown(image, 12345, 12345)
    assert "belongs to somebody else" in problem_of(image)


def test_an_image_in_a_store_is_looked_for_on_the_node() -> None:
    stored = {**SPEC, "cluster": {"container": "containers-storage:localhost/harness:1"}}
    check_image(load_spec(stored))
