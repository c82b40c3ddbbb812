"""The domain adaptation job with fewer epochs: fonts to handwriting."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local.training_helpers import call, lines

ROOT = Path(__file__).resolve().parents[2]
LEAST_ACCURACY = 0.55
# Measured: 0.68; a tenth by chance.


@pytest.fixture(scope="module")
def digits() -> Path:
    """build/digits, made if missing."""
    subprocess.run([sys.executable, "jobs/digits_prepare.py"], cwd=ROOT, check=True)
    return ROOT / "build" / "digits"


def test_what_it_prepares_is_two_domains(digits: Path) -> None:
    for folder in ("train", "sharp"):
        printed = [*(digits / folder).glob("*/*.png")]
        assert len(printed) == 2400
        assert len({path.stem.rpartition("-")[0] for path in printed}) == 20
    assert len([*(digits / "target").glob("*.png")]) == 899
    assert len([*(digits / "test").glob("*/*.png")]) == 898
    assert not {path.name for path in (digits / "target").iterdir()} & {
        path.name for path in (digits / "test").glob("*/*.png")
    }


def test_it_reads_handwriting_that_it_has_no_labels_of(digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = str(ROOT / "jobs" / "domain_adaptation.yaml")
    code, _, err = call("run", recipe, "--run-dir", str(run), "-o", "training.phases.0.epochs=4")
    assert code == 0, err
    record = json.loads((run / "run.json").read_text())
    print(f"accuracy {record['final']['test_accuracy']:.3f}")
    assert record["counts"]["target"] == 899
    assert record["final"]["test_accuracy"] >= LEAST_ACCURACY
    ends = [line for line in lines(run / "metrics.jsonl") if line.get("epoch_end")]
    distances = [line["adaptation_loss"] for line in ends if line["split"] == "train"]
    assert all(distance > 0 for distance in distances)
