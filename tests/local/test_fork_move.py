"""Forking, moving and extending a run that was really trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.local.training_helpers import CLASSES, assert_same_result, call, lines, write_spec


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_backbone, data) -> Path:
    """Two phases of three epochs, all checkpoints kept."""
    folder = tmp_path_factory.mktemp("trained")
    spec = write_spec(folder, tiny_backbone, data, **{"checkpoint.keep": 99})
    code, _, err = call("run", str(spec), "--run-dir", str(folder / "run"), "--quiet")
    assert code == 0, err
    return folder / "run"


def steps(run: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in (run / "checkpoints").glob("step-*"))


def test_a_fork_half_way_moved_then_trained_ends_with_the_bits_of_its_parent(trained, tmp_path):
    middle = steps(trained)[len(steps(trained)) // 2]
    first, second = tmp_path / "first", tmp_path / "second"
    code, out, err = call(
        "fork", str(trained), "--step", str(middle), "--run-dir", str(first), "--json"
    )
    assert code == 0, err
    assert json.loads(out)["parent"]["step"] == middle
    assert call("move", str(first), str(second))[0] == 0
    code, _, err = call("run", str(second / "spec.yaml"), "--run-dir", str(second), "--quiet")
    assert code == 0, err
    # The fork's curve begins where the parent's was left.
    kept = [line for line in lines(trained / "metrics.jsonl") if line["step"] > middle]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    twin = tmp_path / "twin"
    shutil.copytree(trained, twin)
    (twin / "metrics.jsonl").write_text(text)
    assert_same_result(second, twin)
    record = json.loads((second / "run.json").read_text())
    parent = json.loads((trained / "run.json").read_text())
    assert record["final"] == parent["final"]
    assert record["parent"]["run_id"] == parent["run_id"] != record["run_id"]


def test_more_epochs_open_the_finished_run(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    command = ("run", str(run / "spec.yaml"), "--run-dir", str(run), "--quiet")
    before = (run / "run.json").read_bytes()
    assert call(*command)[0] == 0
    assert (run / "run.json").read_bytes() == before, "a finished run is left as it is"
    code, _, err = call(*command, "-o", "training.phases.1.epochs=4")
    assert code == 0, err
    code, out, _ = call("status", str(run), "--json")
    facts = json.loads(out)
    assert code == 0 and facts["state"] == "finished"
    assert facts["step"] == facts["total_steps"] > max(steps(trained))
    assert facts["metrics"]["test_accuracy"] >= 0
