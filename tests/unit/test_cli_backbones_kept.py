"""``harness cache``, as far as it is about backbones."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.model import kept
from harness.model.kept import backbones, note_use
from tests.https_here import World
from tests.unit.backbones_cli_helpers import HANDLE, cache, hub, module_in, served, staged

__all__ = ["cache", "hub", "served"]  # fixtures, found by their names


DAY_S = 86400.0


def aged(path: Path, days: float) -> None:
    os.utime(path.with_name(path.name + kept.USED), (time.time() - days * DAY_S,) * 2)


def kept_handles(capsys: pytest.CaptureFixture[str]) -> list[str | None]:
    capsys.readouterr()
    assert main(["cache", "list", "--json"]) == 0
    return [one["handle"] for one in json.loads(capsys.readouterr().out)["backbones"]]


@pytest.fixture
def three(hub: World, cache: Path, capsys) -> Path:
    """A module unused for eight days, weights for forty; what somebody else put there."""
    staged(capsys, HANDLE)
    weights = cache / "keras" / "models" / "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    (weights.parent / "mine.h5").write_bytes(b"mine")
    note_use(weights)
    aged(module_in(cache), 8)
    aged(weights, 40)
    return cache


def test_the_list_shows_backbones(three: Path, capsys) -> None:
    assert kept_handles(capsys) == ["keras:Xception", HANDLE]
    assert main(["cache", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["NAME", "SIZE", "UNUSED", "HANDLE"]
    assert lines[-1] == "2 backbones, 17 bytes"


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--unused-days", "30"], [HANDLE]),
        (["--unused-days", "50"], ["keras:Xception", HANDLE]),
        (["--to-gb", "0.00000001"], [HANDLE]),
        (["--all"], []),
        (["--all", "--only", "backbones"], []),
        (["--all", "--only", "features"], ["keras:Xception", HANDLE]),
        (["--all", "--dry-run"], ["keras:Xception", HANDLE]),
    ],
)
def test_prune_removes_backbones_that_nobody_uses(
    words: list[str], left: list[str], three: Path, capsys
) -> None:
    assert main(["cache", "prune", *words]) == 0
    assert kept_handles(capsys) == left
    names = {path.name for path in (three / "tfhub").iterdir()}
    assert bool(names) == (HANDLE in left)  # nor anything beside it
    assert (three / "keras" / "models" / "mine.h5").exists()


def run_folder(folder: Path, mark: str | None = None) -> Path:
    (folder / "slurm").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    if mark is not None:
        (folder / mark).write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("mark", "age_days", "stays"),
    [
        (None, 0, True),
        (None, 80, True),
        (None, 100, False),
        ("FINISHED", 0, False),
        ("FAILED", 0, False),
        ("slurm/CANCELLED", 0, False),
    ],
)
def test_what_a_run_needs_is_not_pruned(
    mark: str | None, age_days: float, stays: bool, three: Path, tmp_path: Path, capsys
) -> None:
    run = run_folder(tmp_path / "run", mark)
    other = run_folder(tmp_path / "other", "FINISHED")
    for one in (other, run, run):
        note_use(module_in(three), one)
    os.utime(run / "run.json", (time.time() - age_days * DAY_S,) * 2)
    aged(module_in(three), 8)
    (found,) = [one for one in backbones(three) if one.handle == HANDLE]
    assert found.runs == ((run,) if stays else ())
    assert found.in_use is stays
    if stays:
        assert main(["cache", "list"]) == 0
        assert "in use by 1 run" in capsys.readouterr().out
    assert main(["cache", "prune", "--all"]) == 0
    assert (HANDLE in kept_handles(capsys)) == stays


def test_a_run_that_has_gone_needs_nothing(three: Path, tmp_path: Path) -> None:
    note_use(module_in(three), tmp_path / "nowhere")
    assert [one.runs for one in backbones(three)] == [(), ()]


def test_what_has_just_come_into_use_stays(three: Path, capsys) -> None:
    (found,) = [one for one in backbones(three) if one.handle == HANDLE]
    note_use(found.path)
    assert kept.remove(found) is False
    assert found.path.exists()
