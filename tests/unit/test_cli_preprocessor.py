"""``harness stage`` and ``submit`` of a spec whose preprocessor is fetched as well."""

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

ENCODER, BEFORE = "https://tfhub.dev/google/encoder/1", "https://tfhub.dev/google/before/1"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("https")) as found:
        for handle, content in ((ENCODER, b"encoder"), (BEFORE, b"before")):
            found.serve_module(handle, {"./saved_model.pb": content})
        yield found


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, nobody who answers, and a spec of texts in the present folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)
    Path("texts.tsv").write_text("what\tlabel\n" + "a\tx\nb\ty\n" * 4)
    backbone = {"handle": ENCODER, "preprocessor": BEFORE, "output": "pooled_output"}
    data = {"train": "texts.tsv", "columns": {"path": None, "text": "what"}}
    spec = changed(task="text_classification", backbone=backbone, data=data)
    Path("spec.yaml").write_text(yaml.safe_dump(spec))
    return tmp_path / "cache" / "tfhub"


@pytest.fixture
def hub(served: World, cache: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The Hub can be reached."""
    served.asked.clear()
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


def test_both_are_fetched(hub: World, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stage", "spec.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["backbone"]["handle"], found["preprocessor"]["handle"]) == (ENCODER, BEFORE)
    for handle, content in ((ENCODER, b"encoder"), (BEFORE, b"before")):
        assert (cache / module_name(handle) / "saved_model.pb").read_bytes() == content
    assert main(["stage", "spec.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["backbone"]["fetched"]
    assert not found["preprocessor"]["fetched"]
    assert len(hub.asked) == 2


def test_what_is_missing_is_named(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The encoder is there, and the preprocessor cannot be had: that is what the error is of."""
    (cache / module_name(ENCODER)).mkdir(parents=True)
    (cache / module_name(ENCODER) / "saved_model.pb").touch()
    assert main(["submit", "spec.yaml", "--site", "local", "--runs-root", "runs"]) == 4
    error = capsys.readouterr().err
    assert "backbone.preprocessor: the preprocessor is not in the cache" in error
    assert f"harness stage {BEFORE} --from FILE" in error
    assert not Path("runs").exists()
    assert main(["submit", "spec.yaml", "--dry-run"]) == 0
    assert f"the backbone {BEFORE} is not in the cache" in capsys.readouterr().err


def test_a_file_is_of_one_of_them(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("module.tar.gz").write_bytes(b"")
    assert main(["stage", "spec.yaml", "--from", "module.tar.gz"]) == 2
    assert "name the one that is meant" in capsys.readouterr().err
