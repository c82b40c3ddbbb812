"""A Hub that is served here, and what is fetched from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model import download
from harness.model.remote import Remote, Shelves, remote_of
from harness.spec.models_model import Backbone
from tests.https_here import World, archive, world

HANDLE = "https://tfhub.dev/google/small/1"


FILES = {"./saved_model.pb": b"graph" * 1000, "./variables/variables.index": os.urandom(90_000)}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("https")) as found:
        yield found


@pytest.fixture
def hub(served: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The served world as the module left it: one module, nothing odd."""
    served.__dict__.update(World().__dict__ | {"environment": served.environment})
    served.serve_module(HANDLE, FILES)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(download, "_PAUSE_S", 0.01)
    return served


@pytest.fixture
def shelves(tmp_path: Path) -> Shelves:
    (tmp_path / "cache").mkdir(mode=0o700)
    return Shelves.of({}, tmp_path / "cache")


def module(shelves: Shelves, handle: str = HANDLE) -> Remote:
    found = remote_of(Backbone(handle=handle), (), shelves)
    assert found is not None
    return found


def quiet(text: str) -> None:
    """Hears nothing."""


WHOLE = archive(FILES)
