"""A run whose job has a known end stops by itself in time, and goes on with the same bits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.runs.attempts import read_attempts
from harness.runs.paths import RunPaths
from tests.local.training_helpers import (
    CLASSES,
    MISCHIEF,
    assert_same_result,
    call,
    mischief,
    write_spec,
)

STOPPED = 75
# Else a test would wait for the time that is kept for a barrier on a slow file system.
SHORTER = """
from harness.worker import deadline
deadline.LEAST_S, deadline.UNKNOWN_SAVE_S = 2.0, 1.0

@register("callback", "slow")
class Slow(Mischief):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(float(os.environ.get("SLOW_S", "0")))
"""
LIMIT_S = 60  # most of it for a machine that is slow to begin


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 16, 16)
    write_pictures(folder / "test", CLASSES, 4, 16)
    return folder


def run(folder: Path, backbone: Path, data: Path, **environment: str) -> tuple[int, str]:
    folder.mkdir(exist_ok=True)
    slow = [{"plugin": "slow"}]
    changes = mischief(folder) | {"training.callbacks": slow}
    spec = write_spec(folder, backbone, data, **changes)
    (folder / "mischief.py").write_text(MISCHIEF + SHORTER)
    code, _, err = call("run", str(spec), "--run-dir", str(folder / "run"), **environment)
    assert "Traceback" not in err
    return code, err


def test_it_stops_in_time_and_ends_with_the_same_bits(tmp_path, tiny_backbone, data) -> None:
    end = time.time() + LIMIT_S
    known = {"HARNESS_JOB_END": str(int(end)), "SLOW_S": "5"}
    code, err = run(tmp_path / "limited", tiny_backbone, data, **known)
    left = end - time.time()
    assert code == STOPPED, err
    assert "its time limit, in" in err
    assert 0 < left < LIMIT_S / 2, "it used its time, and no more"
    (attempt,) = read_attempts(RunPaths(tmp_path / "limited" / "run"))
    assert attempt.outcome == "stopped"
    assert attempt.to_step is not None
    assert attempt.to_step > 3
    assert run(tmp_path / "limited", tiny_backbone, data)[0] == 0
    assert run(tmp_path / "undisturbed", tiny_backbone, data)[0] == 0
    assert_same_result(tmp_path / "limited" / "run", tmp_path / "undisturbed" / "run")
