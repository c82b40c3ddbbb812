"""A run that is killed or stopped ends with the bits of one that was left alone."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

from tests.local.training_helpers import (
    CLASSES,
    assert_same_result,
    call,
    finish,
    lines,
    mischief,
    start,
    write_spec,
)

SAVED = 75


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    # 13 + 13 + 13: neither lanes nor batches come out even.
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_backbone, data) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = write_spec(folder, tiny_backbone, data, **mischief(folder))
    code, _, err = call("run", str(spec), "--run-dir", str(folder / "run"))
    assert code == 0, err
    return folder / "run"


@pytest.mark.core
@pytest.mark.parametrize("at", [1, 11, 20])
def test_killed_at_a_step(at, tmp_path, tiny_backbone, data, undisturbed):
    """Before the first save, between saves, at an epoch's end, in both phases."""
    spec = write_spec(tmp_path, tiny_backbone, data, **mischief(tmp_path, at=at, number=9))
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert call(*command)[0] == -signal.SIGKILL
    code, _, err = call(*command)
    assert code == 0, err
    assert_same_result(tmp_path / "run", undisturbed)
    attempts = lines(tmp_path / "run" / "attempts.jsonl")
    assert [(a["attempt"], a["event"]) for a in attempts] == [
        (1, "begin"),
        (2, "begin"),
        (2, "end"),
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stopped_by_a_signal_saves_and_goes_on(number, tmp_path, tiny_backbone, data, undisturbed):
    options = mischief(tmp_path, at=10, number=int(number))
    spec = write_spec(tmp_path, tiny_backbone, data, **options)
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    code, _, err = call(*command)
    assert code == SAVED, err
    assert "it is saved" in err and "Traceback" not in err
    saved = re.search(r"stopped at step (\d+)", err)
    assert saved and int(saved[1]) >= 10
    assert (tmp_path / "run" / "checkpoints" / f"step-{int(saved[1]):08d}").is_dir()
    outcome = json.loads((tmp_path / "run" / "slurm" / "outcome-1.json").read_text())
    assert outcome["outcome"] == "stopped" and outcome["to_step"] == int(saved[1])
    code, _, err = call(*command)
    assert code == 0, err
    assert f"continues from the checkpoint of step {int(saved[1])}" in err
    assert_same_result(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("after_s", [0.0, 1.0, 3.0, 6.0])
def test_control_c_in_any_second(after_s, tmp_path, tiny_backbone, data):
    """While the run is made, TensorFlow is imported, the first step compiles, steps run."""
    spec = write_spec(tmp_path, tiny_backbone, data, **mischief(tmp_path, sleep_s=0.3))
    process = start("run", str(spec), "--run-dir", str(tmp_path / "run"))
    while not (tmp_path / "run").exists():
        time.sleep(0.01)
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    code, _, err = finish(process)
    assert time.monotonic() - sent < 20
    assert code in (SAVED, 130), err
    assert "Traceback" not in err
    assert "next" in err or code == 130


def test_a_second_start_is_refused_while_the_first_runs(tmp_path, tiny_backbone, data):
    spec = write_spec(tmp_path, tiny_backbone, data, **mischief(tmp_path, sleep_s=0.3))
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    first = start(*command)
    while not (tmp_path / "run" / "attempts.jsonl").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    code, _, err = call(*command)
    assert code == 2 and f"process {first.pid}" in err
    first.send_signal(signal.SIGTERM)
    finish(first)


def test_a_finished_run_says_so_and_more_epochs_open_it_again(tmp_path, tiny_backbone, data):
    spec = write_spec(tmp_path, tiny_backbone, data)
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert call(*command)[0] == 0
    finished = max(line["step"] for line in lines(tmp_path / "run" / "metrics.jsonl"))
    code, _, err = call(*command)
    assert code == 0 and "finished" in err
    code, _, err = call(*command, "-o", "training.phases.1.epochs=4")
    assert code == 0, err
    steps = [line["step"] for line in lines(tmp_path / "run" / "metrics.jsonl")]
    assert max(steps) == finished // (3 + 3) * (3 + 4)
    code, _, err = call(*command, "-o", "training.seed=4")
    assert code == 2 and "training.seed" in err and "fork" in err


def test_changed_data_are_refused_by_name(tmp_path, tiny_backbone, write_pictures):
    folder = tmp_path / "own"
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    spec = write_spec(tmp_path, tiny_backbone, folder, **mischief(tmp_path, at=5, number=15))
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert call(*command)[0] == SAVED
    (folder / "train" / "red" / "000.png").unlink()
    code, _, err = call(*command)
    assert code == 4 and "train" in err and "have changed" in err and "fork" in err
