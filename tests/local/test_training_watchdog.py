"""Trainings that hang are ended in time, name who hangs, and go on with the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.runs.attempts import read_attempts
from harness.runs.paths import RunPaths
from tests.horovod_here import need_horovod
from tests.local.rank_helpers import Group, group, start_ranks, wait_until
from tests.local.training_helpers import CLASSES, assert_same_result, call, lines, write_spec
from tests.local.warm import HARNESS

STOPPED = 75
# Stands still at a step of the first attempt, on one rank.
STANDS = """
import os, pathlib, time
import tf_keras
from harness.plugins import register
from harness.worker import watchdog

watchdog.SLOWER = 5  # else a slow machine is waited for

def wait_for_ever():
    while True:
        time.sleep(1)

@register("callback", "stands")
class Stands(tf_keras.callbacks.Callback):
    def __init__(self, mark, at, rank):
        super().__init__()
        self.mark, self.at = pathlib.Path(mark), at
        self.here = int(os.environ.get("SUBMITIT_LOCAL_GLOBALID", "0")) == rank

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations.numpy())
        if self.here and step >= self.at and not self.mark.exists():
            self.mark.touch()
            wait_for_ever()

    def get_state(self):
        return {}

    def set_state(self, state):
        pass
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


def write(folder: Path, backbone: Path, data: Path, rank: int = 0, at: int = 8, **more) -> Path:
    folder.mkdir(exist_ok=True)
    options = {"mark": str(folder / "mark"), "at": at, "rank": rank}
    changes = {
        "plugins": [str(folder / "stands.py")],
        "training.callbacks": [{"plugin": "stands", "options": options}],
        "cluster.watchdog_s": 20,  # and six times as long to compile, on a busy machine
        **more,
    }
    (folder / "stands.py").write_text(STANDS)
    return write_spec(folder, backbone, data, **changes)


def command(spec: Path, *more: str) -> list[str]:
    return ["run", str(spec), "--run-dir", str(spec.parent / "run"), *more]


def last_message(spec: Path) -> str:
    attempt = read_attempts(RunPaths(spec.parent / "run"))[-1]
    assert attempt.outcome == "interrupted"
    return str(attempt.message)


def test_one_process_says_where_it_stands_and_goes_on(tmp_path, tiny_backbone, data) -> None:
    spec = write(tmp_path / "hangs", tiny_backbone, data)
    code, _, err = call(*command(spec))
    assert code == STOPPED, err
    assert "stands.py" in err, "the stacks of all threads"
    assert "in wait_for_ever" in err
    assert "it stands at stands.py:" in last_message(spec)
    assert lines(spec.parent / "run" / "metrics.jsonl")[-1]["step"] <= 8
    assert call(*command(spec))[0] == 0
    other = write(tmp_path / "undisturbed", tiny_backbone, data, at=10**6)
    assert call(*command(other))[0] == 0
    assert_same_result(spec.parent / "run", other.parent / "run")


HOROVOD = ["-o", "cluster.strategy=horovod"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_backbone, data) -> Path:
    """A run of two ranks that nobody stops."""
    need_horovod("gloo")
    spec = write(tmp_path_factory.mktemp("undisturbed") / "run", tiny_backbone, data, at=10**6)
    with group(spec.parent / "logs") as started:
        start_ranks(started, 2, [*HARNESS, *command(spec, *HOROVOD)])
        assert [one.code for one in started.ended()] == [0, 0], started.said()
    return spec.parent / "run"


def go_on(spec: Path, undisturbed: Path) -> None:
    with group(spec.parent / "again") as started:
        start_ranks(started, 2, [*HARNESS, *command(spec, *HOROVOD)])
        assert [one.code for one in started.ended()] == [0, 0], started.said()
    assert_same_result(spec.parent / "run", undisturbed)


def begun(spec: Path, among: Group) -> None:
    """Waits for the step at which a rank stands."""
    wait_until((spec.parent / "mark").exists, among)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_rank_that_stands_is_named(rank, tmp_path, tiny_backbone, data, undisturbed) -> None:
    spec = write(tmp_path, tiny_backbone, data, rank)
    with group(tmp_path / "logs") as started:
        start_ranks(started, 2, [*HARNESS, *command(spec, *HOROVOD)])
        begun(spec, started)
        ended = started.ended(150)
    assert [one.code for one in ended] == [STOPPED] * 2, started.said()
    assert f"rank {rank} " in last_message(spec)
    assert "stands at stands.py:" in last_message(spec)
    assert "the others wait at" in last_message(spec)
    assert all("_take_steps" in one.err for one in ended), "each log has its stacks"
    go_on(spec, undisturbed)
