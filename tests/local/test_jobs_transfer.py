"""The recipes of fine-tuning, gradual unfreezing and progressive resizing, with fewer epochs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.local.training_helpers import call, lines

ROOT = Path(__file__).resolve().parents[2]
SHRUNK = {
    "fine_tuning": ([2, 1], 0.86),
    "gradual_unfreezing": ([2, 1, 1, 1], 0.86),
    "progressive_resizing": ([1, 1, 1], 0.84),
}
"""Epochs by phase, and the least accuracy they are to reach (random weights: 0.6 at most)."""


@pytest.mark.parametrize("name", SHRUNK)
def test_the_recipe_reaches_its_accuracy(name: str, quickstart: Path, tmp_path: Path) -> None:
    epochs, least = SHRUNK[name]
    changes = [f"training.phases.{at}.epochs={count}" for at, count in enumerate(epochs)]
    changes.append("training.phases.0.learning_rate=0.005")  # fewer steps, so longer ones
    overrides = [part for change in changes for part in ("-o", change)]
    run = tmp_path / "run"
    code, _, err = call(
        "run", str(ROOT / "jobs" / f"{name}.yaml"), "--run-dir", str(run), *overrides
    )
    assert code == 0, err
    record = json.loads((run / "run.json").read_text())
    print(f"{name}: {record['final']['test_accuracy']:.3f}")
    assert record["final"]["test_accuracy"] >= least
    assert len(record["trained"]) == len(epochs)
    assert record["trained"][-1]["blocks"]
    phases = {line["phase"] for line in lines(run / "metrics.jsonl") if line["split"] == "val"}
    assert len(phases) == len(epochs)
