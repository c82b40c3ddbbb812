"""A cache, a Hub that is served here, and specs with a backbone from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.cli.main import main
from harness.model.remote import module_name
from tests.https_here import NOBODY, World, world
from tests.unit.spec_helpers import changed

HANDLE = "https://tfhub.dev/google/small/1"


FILES = {"./saved_model.pb": b"graph", "./variables/variables.index": b"index"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("https")) as found:
        found.serve_module(HANDLE, FILES)
        yield found


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and nobody who answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "cache"


@pytest.fixture
def hub(served: World, cache: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The Hub can be reached."""
    served.asked.clear()
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


def spec_file(**changes: object) -> str:
    """A spec with a backbone from the Hub, in the present folder."""
    file = Path("spec.yaml")
    Path("data/a").mkdir(parents=True, exist_ok=True)
    whole = changed(**{"backbone": {"handle": HANDLE}, "data": {"train": "data"}, **changes})
    file.write_text(yaml.safe_dump(whole))
    return str(file)


def module_in(cache: Path) -> Path:
    return cache / "tfhub" / module_name(HANDLE)


def staged(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main(["stage", *words, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))
