"""Which checkpoint a run goes on from, at a start and where a value was not finite."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("tensorflow")

from checkpoint_helpers import flip_bit

from harness.checkpoint import Store
from harness.checkpoint.leftovers import discard_later
from harness.distribute.single import SingleDevice
from harness.errors import StorageError
from harness.train.course import Course
from harness.train.rollbacks import NotFinite, RollBacks

BAD = NotFinite.at(9, "the loss of step 9")


class Run:
    """Its checkpoints, its record, and a process that has come to neither yet."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.store = Store(folder, keep=9, access="private", log=self.said.append)
        self.record: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        self.rollbacks = RollBacks(
            True,
            lambda: list(self.record),
            self._note,
            lambda step: discard_later(self.store.folder, step, self.said.append),
        )
        parts: Any = SimpleNamespace(
            distribution=SingleDevice(),
            saver=self.store,
            rollbacks=self.rollbacks,
            watch=SimpleNamespace(say=self.said.append),
            kept=lambda step: True,
        )
        self.course = Course(parts)

    def save(self, step: int, *, planned: bool = True) -> Path:
        if planned:
            self.rollbacks.planned = step
        position = {"step": step, "phase": 0, "phase_step": step, "epoch": 0, "validated": True}
        best = {"metric": "val_loss", "value": None, "step": None}
        state = {"position": position, "best": best, "rollbacks": self.rollbacks.to_json()}
        return self.store.save(step, {}, state)

    def steps(self) -> list[int]:
        return [info.step for info in self.store.list()]

    def _note(self, done: list[dict[str, Any]]) -> None:
        self.record = done


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """With checkpoints of steps 3 and 6, and of step 8, where it was stopped."""
    made = Run(tmp_path)
    made.save(3)
    made.save(6)
    made.save(8, planned=False)
    made.start()
    made.course.newest()
    return made


def step_of(found: Any) -> int:
    restored, head = found
    assert restored.step == head["state"]["position"]["step"]
    return int(restored.step)


def test_it_goes_back_to_what_was_planned_and_leaves_the_rest(run: Run) -> None:
    run.start()
    assert step_of(run.course.newest()) == 8
    _, head = found = run.course.before(BAD)
    assert (step_of(found), run.steps()) == (6, [3, 6])
    assert head is not None and head["state"]["rollbacks"]["done"] == run.record
    assert [(one["step"], one["to_step"]) for one in run.record] == [(9, 6)]
    run.start()
    assert step_of(run.course.newest()) == 6
    assert run.rollbacks.scale == 0.5


def test_killed_in_between_it_is_left_at_the_next_start(run: Run) -> None:
    shutil.copytree(run.store.folder, run.store.folder.with_name("kept"))
    run.course.before(BAD)
    shutil.copytree(run.store.folder.with_name("kept"), run.store.folder, dirs_exist_ok=True)
    run.start()
    assert (step_of(run.course.newest()), run.steps()) == (6, [3, 6])
    assert (run.rollbacks.done, run.rollbacks.planned) == (run.record, 6)


def test_what_was_saved_since_is_taken_up(run: Run) -> None:
    run.rollbacks.from_json(run.course.before(BAD)[1]["state"]["rollbacks"])  # type: ignore[index]
    run.save(9)
    run.start()
    assert step_of(run.course.newest()) == 9
    assert len(run.rollbacks.done) == 1


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_if_the_planned_one_cannot_be_had_it_is_the_newest(how: str, run: Run) -> None:
    path = run.store.folder / "step-00000006"
    shutil.rmtree(path) if how == "gone" else flip_bit(path / "state.json", 9)
    assert step_of(run.course.before(BAD)) == 8
    assert any("the newest stands for it" in line for line in run.said)
    assert run.record[0]["to_step"] == 8


def test_where_all_are_damaged_nothing_is_noted(run: Run) -> None:
    for path in run.store.folder.iterdir():
        flip_bit(path / "state.json", 9)
    with pytest.raises(StorageError, match="no checkpoint can be used"):
        run.course.before(BAD)
    assert run.record == []


def test_without_any_checkpoint_it_is_the_end(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(NotFinite, match="there is no checkpoint to go back to"):
        run.course.before(BAD)
    assert run.record == []


def test_a_run_that_begins_anew_has_its_whole_rates(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.record = [{"step": 9, "to_step": 6, "rate_scale": 0.5, "time": "t"}]
    assert run.course.newest() == (None, None)
    assert run.record == [] and run.rollbacks.scale == 1.0


def test_the_sixth_time_in_a_row_is_the_end_and_not_noted(run: Run) -> None:
    for _ in range(5):
        run.rollbacks.from_json(run.course.before(BAD)[1]["state"]["rollbacks"])  # type: ignore[index]
    with pytest.raises(NotFinite, match="it went back 5 times without getting past that step"):
        run.course.before(BAD)
    assert len(run.record) == 5
