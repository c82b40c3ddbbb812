"""``harness stage --slurm``, ``plan`` and ``submit``, as far as they are about backbones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from tests.https_here import World
from tests.unit.backbones_cli_helpers import (
    HANDLE,
    cache,
    hub,
    module_in,
    served,
    spec_file,
    staged,
)
from tests.unit.staging_helpers import make_set
from tests.unit.test_launch_verb_job import options, script, step

__all__ = ["cache", "hub", "served"]  # fixtures, found by their names


def test_reading_all_of_it_is_a_job(hub: World, cache: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS_ROOT", str(cache.parent / "runs"))
    text = script(capsys, "stage", spec_file(), "--digest", "-o", "cluster.time=1:00:00")
    file = str(Path("spec.yaml").absolute())
    assert step(text) == ["stage", file, "--digest", "-o", "cluster.time=1:00:00"]
    assert options(text)["time"] == "1:00:00"
    assert hub.asked == []  # nothing is done
    assert step(script(capsys, "stage", HANDLE, "--digest")) == ["stage", HANDLE, "--digest"]


def test_copying_is_a_job_with_a_place(hub: World, cache: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS_ROOT", str(cache.parent / "runs"))
    packed = make_set(cache.parent / "packed").root
    file = spec_file(data={"train": str(packed), "validation": None})
    assert main(["stage", file, "--slurm", "--dry-run"]) == 2
    assert "--slurm without --to" in capsys.readouterr().err
    words = ["--only", "data", "--to", "there"]
    found = step(script(capsys, "stage", file, *words))
    there = str(Path("there").absolute())
    assert found[1:] == [str(Path(file).absolute()), *words[:-1], there, "--workers", found[-1]]
    assert step(script(capsys, "stage", str(packed), "--to", "there"))[1] == str(packed)


def test_packing_goes_along(hub: World, cache: Path, capsys, monkeypatch, write_pictures) -> None:
    monkeypatch.setenv("HARNESS_RUNS_ROOT", str(cache.parent / "runs"))
    write_pictures(cache.parent / "pictures", ["a", "b"], 3, 8)
    file = spec_file(data={"train": "pictures", "validation": None, "image_size": 8})
    found = staged(capsys, file, "--pack", "packed")
    assert found["backbone"]["fetched"]
    assert (found["packed"]["examples"], found["packed"]["finished"]) == (6, True)
    assert main(["pack", file, "again", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == found["packed"]["digest"]
    assert main(["stage", file, "--pack", "packed"]) == 0
    said = capsys.readouterr().out
    assert "it was in the cache" in said
    assert "packed: 6 examples of 2 classes" in said
    assert script(capsys, "stage", file, "--pack", "other") == script(capsys, "pack", file, "other")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "there"], "--pack does not go with --to"),
        (["--only", "data"], "--pack does not go with --only data"),
        (["--digest", "--slurm"], "--pack does not go with --digest"),
        (["-o", "data.image_size=9"], "--pack does not go with -o data.image_size=9"),
    ],
)
def test_what_packing_does_not_go_with(words: list[str], said: str, cache: Path, capsys) -> None:
    assert main(["stage", spec_file(), "--pack", "packed", *words]) == 2
    assert said in capsys.readouterr().err
    assert main(["stage", HANDLE, "--pack", "packed"]) == 2
    assert "--pack is of the data of a spec" in capsys.readouterr().err


def planned(capsys: pytest.CaptureFixture[str], file: str) -> dict:
    capsys.readouterr()
    assert main(["plan", file, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_a_plan_says_whether_the_backbone_is_there(hub: World, cache: Path, capsys) -> None:
    file = spec_file()
    plan = planned(capsys, file)
    assert plan["backbone"] == {
        "handle": HANDLE,
        "path": str(module_in(cache)),
        "cached": False,
        "bytes": None,
    }
    assert any("is not in the cache; `harness submit` fetches" in note for note in plan["notes"])
    assert main(["submit", file, "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "is not in the cache" in shown.err
    assert "is not in the cache" not in shown.out
    assert hub.asked == []
    staged(capsys, file)
    plan = planned(capsys, file)
    assert (plan["backbone"]["cached"], plan["backbone"]["bytes"]) == (True, 10)
    assert any("is in the cache" in note for note in plan["notes"])
    assert main(["submit", file, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backbone"]["cached"] is True
    assert planned(capsys, spec_file(backbone={"handle": "plugin:x"}))["backbone"] is None


def test_nothing_is_queued_without_its_backbone(cache: Path, capsys) -> None:
    assert main(["submit", spec_file(), "--site", "local", "--runs-root", "runs"]) == 4
    error = capsys.readouterr().err
    assert "spec.yaml:" in error
    assert "backbone.handle: the backbone is not in the cache" in error
    assert f"'{HANDLE}?tf-hub-format=compressed'" in error
    assert not Path("runs").exists()


def test_somebody_elses_module_is_refused_before_anything_is_queued(
    hub: World, cache: Path, capsys
) -> None:
    staged(capsys, HANDLE)
    (module_in(cache) / "saved_model.pb").chmod(0o602)
    command = ["submit", spec_file(), "--site", "local", "--runs-root", "runs"]
    assert main(command) == 4
    assert "others may write to this one" in capsys.readouterr().err
    assert not Path("runs").exists()
