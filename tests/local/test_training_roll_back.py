"""A run that is rolled back goes on as if the later steps had never been, to the last bit."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from events_helpers import points

from harness.cli.main import main
from tests.local.training_helpers import (
    CLASSES,
    assert_same_result,
    checkpoint_steps,
    curve,
    write_spec,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


def trained(folder: Path, backbone: Path, data: Path, **changes: Any) -> Path:
    """A finished run of two phases of three epochs, four steps each; every checkpoint is kept."""
    spec = write_spec(folder, backbone, data, **{"checkpoint.keep": 40}, **changes)
    assert main(["run", str(spec), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_backbone, data) -> Path:
    return trained(tmp_path_factory.mktemp("undisturbed"), tiny_backbone, data)


@pytest.fixture(scope="module")
def unchanging(tmp_path_factory, tiny_backbone, data) -> Path:
    """One whose weights stay as they are, so that its first epoch stays the best."""
    phases = [
        {"name": "one", "epochs": 3, "learning_rate": 1e-20},
        {"name": "two", "epochs": 3, "learning_rate": 1e-20, "start_from": "best"},
    ]
    folder = tmp_path_factory.mktemp("unchanging")
    return trained(folder, tiny_backbone, data, **{"training.phases": phases})


@pytest.fixture
def run(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of it, which no test has touched."""
    return Path(shutil.copytree(undisturbed, tmp_path / "run", symlinks=True))


def roll_back(run: Path, step: int, *more: str) -> None:
    assert main(["checkpoints", str(run), "--roll-back", str(step), *more]) == 0


def go_on(run: Path) -> int:
    return main(["run", str(run / "spec.yaml"), "--run-dir", str(run), "--quiet"])


def record(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text()))


@pytest.mark.parametrize("step", [3, 9, 12, 18])
def test_it_ends_with_the_same_bits_and_curves(step: int, run: Path, undisturbed: Path) -> None:
    """Before any validation, in mid-epoch, at the end of a phase, and in the next one, which
    began from the best."""
    assert step in checkpoint_steps(run)
    roll_back(run, step)
    assert max(checkpoint_steps(run)) == step
    assert not (run / "FINISHED").exists()
    assert record(run)["final"] is None
    assert go_on(run) == 0
    assert (run / "FINISHED").exists()
    assert_same_result(run, undisturbed)
    assert curve(run) == curve(undisturbed)
    for split in ("train", "validation", "test"):
        assert points(run / "tensorboard" / split) == points(undisturbed / "tensorboard" / split)
    assert record(run)["best"] == record(undisturbed)["best"]
    assert record(run)["final"] == record(undisturbed)["final"]
    again = json.loads((run / "attempts.jsonl").read_text().splitlines()[-1])
    assert (again["from_step"], again["to_step"]) == (step, 24)
    later = (run / "metrics.superseded.jsonl").read_text().splitlines()
    assert later and all(
        json.loads(line)["step"] > step or json.loads(line)["split"] == "test" for line in later
    )


def test_what_is_brought_back_is_finished_as_it_was(run: Path, undisturbed: Path) -> None:
    roll_back(run, 9)
    assert main(["checkpoints", str(run), "--bring-back"]) == 0
    assert (run / "FINISHED").read_bytes() == (undisturbed / "FINISHED").read_bytes()
    assert_same_result(run, undisturbed)
    assert record(run)["final"] == record(undisturbed)["final"]


@pytest.mark.parametrize(("step", "counts"), [(12, "those of step 12"), (9, "the next that are")])
def test_a_best_that_is_gone_is_counted_anew(
    step: int,
    counts: str,
    unchanging: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Else the run would train to its end and then miss the weights that it is to test, and a
    phase that starts from the best would find none."""
    run = Path(shutil.copytree(unchanging, tmp_path / "run"))
    assert record(run)["best"]["step"] == 4
    shutil.rmtree(run / "checkpoints" / "step-00000004")
    roll_back(run, step)
    assert "step 4 cannot be had any more" in capsys.readouterr().out
    assert record(run)["best"] is None
    assert main(["run", str(run / "spec.yaml"), "--run-dir", str(run)]) == 0
    said = capsys.readouterr().err
    assert f"the best weights before, of step 4, are not kept any more: {counts}" in said
    assert record(run)["best"]["step"] == 12
    assert record(run)["final"]["test_accuracy"] >= 0
