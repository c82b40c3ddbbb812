"""Where a process finds what is fetched and kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import StorageError
from harness.worker import environment
from harness.worker.environment import prepare

pytest.importorskip("tensorflow")


def prepared(**variables: str) -> dict[str, str]:
    found = dict(variables)
    prepare(found, lambda text: None)
    return found


def test_what_a_user_sets_stays_and_what_is_empty_does_not(tmp_path: Path) -> None:
    found = prepared(HARNESS_CACHE=str(tmp_path / "c"), TFHUB_CACHE_DIR="", KERAS_HOME="/k")
    assert found["TFHUB_CACHE_DIR"] == str(tmp_path / "c" / "tfhub")
    assert found["KERAS_HOME"] == "/k"


def test_a_home_in_the_cache_variable_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site's variables reach a job as they are written."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepared(HARNESS_CACHE="~/c")["HARNESS_CACHE"] == str(tmp_path / "c")


@pytest.mark.parametrize("offline", ["0", "1"])
def test_where_home_can_only_be_read_what_was_staged_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: str
) -> None:
    """On a compute node, which fetches nothing; new files go elsewhere."""
    (tmp_path / "home" / "harness" / "tfhub").mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    usable = environment._usable

    def refused(folder: Path) -> Path:
        if folder.is_relative_to(tmp_path / "home"):
            raise StorageError(f"{folder}: cannot be written")
        return usable(folder)

    monkeypatch.setattr(environment, "_usable", refused)
    found = prepared(XDG_CACHE_HOME=str(tmp_path / "home"), HARNESS_OFFLINE=offline)
    fallen = str(tmp_path / "tmp" / f"harness-{os.getuid()}")
    assert found["HARNESS_CACHE"] == fallen
    wanted = str(tmp_path / "home" / "harness") if offline == "1" else fallen
    assert found["TFHUB_CACHE_DIR"] == f"{wanted}/tfhub"
    assert found["KERAS_HOME"] == f"{wanted}/keras"
