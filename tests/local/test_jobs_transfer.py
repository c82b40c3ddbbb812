"""The recipes of feature extraction, fine-tuning, gradual unfreezing, progressive resizing and of a
model of one's own, with fewer epochs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.local.training_helpers import call, lines

ROOT = Path(__file__).resolve().parents[2]
SHRUNK = {
    "fine_tuning": ([2, 1], 0.86),
    "gradual_unfreezing": ([2, 1, 1, 1], 0.86),
    "own_model": ([2, 1], 0.86),
    "progressive_resizing": ([1, 1, 1], 0.84),
}
"""Epochs by phase, and the least accuracy they are to reach (random weights: 0.6 at most)."""


@pytest.fixture(scope="module", autouse=True)
def own_model(quickstart: Path) -> None:
    """What jobs/own_model.yaml needs beside the quickstart's pictures; made if missing."""
    subprocess.run([sys.executable, "jobs/own_model_prepare.py"], cwd=ROOT, check=True)


def trained(name: str, run: Path, *changes: str) -> dict[str, Any]:
    """The record of a recipe's run, whose accuracy is printed."""
    overrides = [part for change in changes for part in ("-o", change)]
    code, _, err = call(
        "run", str(ROOT / "jobs" / f"{name}.yaml"), "--run-dir", str(run), *overrides
    )
    assert code == 0, err
    record: dict[str, Any] = json.loads((run / "run.json").read_text())
    print(f"{name}: {record['final']['test_accuracy']:.3f}")
    return record


@pytest.mark.parametrize("name", SHRUNK)
def test_the_recipe_reaches_its_accuracy(name: str, tmp_path: Path) -> None:
    epochs, least = SHRUNK[name]
    changes = [f"training.phases.{at}.epochs={count}" for at, count in enumerate(epochs)]
    changes.append("training.phases.0.learning_rate=0.005")  # fewer steps, so longer ones
    run = tmp_path / "run"
    record = trained(name, run, *changes)
    assert record["final"]["test_accuracy"] >= least
    assert len(record["trained"]) == len(epochs)
    assert record["trained"][-1]["blocks"]
    phases = {line["phase"] for line in lines(run / "metrics.jsonl") if line["split"] == "val"}
    assert len(phases) == len(epochs)


def test_feature_extraction_reaches_its_accuracy_from_copies(tmp_path: Path) -> None:
    changes = ("training.phases.0.epochs=6", "training.feature_cache.copies=2")
    record = trained("feature_extraction", tmp_path / "run", *changes)
    assert record["final"]["test_accuracy"] >= 0.9
    assert record["feature_cache"]["train"]["shape"] == [1280]
    assert len(record["feature_cache"]["train"]["keys"]) == 2
