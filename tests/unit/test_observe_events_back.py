"""Files of TensorBoard through attempts, kills and going back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from checkpoint_helpers import small_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import StorageError
from harness.observe import TensorBoardWriter, eventfiles

pytest.importorskip("tensorboard")
from tests.unit.events_helpers import events, points, train


def test_going_back_leaves_one_file_and_one_curve_by_step_and_by_epoch(tmp_path):
    for start, end, value in ((0, 35, 1.0), (12, 47, 2.0), (30, 50, 3.0)):
        writer = TensorBoardWriter(tmp_path)
        writer.rollback(start)
        train(writer, range(start + 1, end + 1), value)
        writer.close()
    found = points(tmp_path / "train")
    expected = [(s, 1.0 if s <= 12 else 2.0 if s <= 30 else 3.0) for s in range(1, 51)]
    assert found["batch_loss"] == expected
    assert found["epoch_loss"] == [(0, 1.0), (1, 2.0), (2, 2.0), (3, 3.0), (4, 3.0)]
    validation = points(tmp_path / "validation")
    assert validation["epoch_loss"] == found["epoch_loss"]
    assert [len(list(folder.iterdir())) for folder in tmp_path.iterdir()] == [1, 1]


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 25)), min_size=1, max_size=5),
    st.integers(1, 12),
)
def test_any_course_of_attempts_gives_one_rising_curve(tmp_path_factory, attempts, per_epoch):
    folder, reached = tmp_path_factory.mktemp("tensorboard"), 0
    model: dict[int, float] = {}
    for number, (back, count) in enumerate(attempts):
        reached = min(back, reached)
        writer = TensorBoardWriter(folder)
        writer.rollback(reached)
        model = {step: value for step, value in model.items() if step <= reached}
        model |= dict.fromkeys(range(reached + 1, reached + count + 1), float(number))
        train(writer, range(reached + 1, reached + count + 1), float(number), per_epoch)
        reached += count
        writer.close()
    found = points(folder / "train")
    assert found.get("batch_loss", []) == sorted(model.items())
    whole = [(s // per_epoch - 1, v) for s, v in sorted(model.items()) if s % per_epoch == 0]
    assert found.get("epoch_loss", []) == whole
    assert points(folder / "validation").get("epoch_loss", []) == whole


@pytest.mark.parametrize("cut", [1, 5, 13, 40])
def test_a_record_torn_by_a_kill_is_left_out(tmp_path, cut):
    writer = TensorBoardWriter(tmp_path)
    train(writer, [1, 2, 3])
    (path,) = eventfiles.our_files(tmp_path / "train")
    os.truncate(path, path.stat().st_size - cut)
    after = TensorBoardWriter(tmp_path)
    after.rollback(3)
    train(after, [4])
    assert [step for step, _ in points(tmp_path / "train")["batch_loss"]] == [1, 2, 4]


def test_without_a_rollback_an_earlier_file_is_not_written_to(tmp_path):
    for steps in ([1, 2], [3]):
        writer = TensorBoardWriter(tmp_path)
        train(writer, steps)
        writer.close()
    assert len(eventfiles.our_files(tmp_path / "train")) == 2
    starts = [event for event in events(tmp_path / "train") if eventfiles._is_start(event)]
    assert len(starts) == 1, "a second mark would hide the first file"
    after = TensorBoardWriter(tmp_path)
    after.rollback(3)
    assert [step for step, _ in points(tmp_path / "train")["batch_loss"]] == [1, 2, 3]


@pytest.mark.parametrize("stage", ["before the rename", "before the removal"])
def test_a_kill_while_going_back_loses_nothing(tmp_path, monkeypatch, stage):
    writer = TensorBoardWriter(tmp_path)
    train(writer, range(1, 6))
    writer.close()
    folder = tmp_path / "train"

    class Killed(BaseException):
        pass

    def kill(self, *args, **kwargs):
        raise Killed

    monkeypatch.setattr(Path, "rename" if stage == "before the rename" else "unlink", kill)
    monkeypatch.setattr(Path, "unlink", kill)
    with pytest.raises(Killed):
        eventfiles.go_back(folder, 3)
    monkeypatch.undo()
    assert eventfiles.our_files(folder)
    eventfiles.go_back(folder, 4)
    expected = [1, 2, 3, 4] if stage == "before the rename" else [1, 2, 3]
    assert [step for step, _ in points(folder)["batch_loss"]] == expected
    assert len(list(folder.iterdir())) == 1


def test_files_of_others_are_left_alone(tmp_path):
    other = tmp_path / "train" / "events.out.tfevents.2000000000.host.1.0.v2"
    other.parent.mkdir()
    other.write_bytes(b"theirs")
    writer = TensorBoardWriter(tmp_path)
    train(writer, [1, 2])
    writer.rollback(1)
    assert other.read_bytes() == b"theirs"
    assert [step for step, _ in points(tmp_path / "train")["batch_loss"]] == [1]


def test_a_full_disk_is_raised_by_the_write_and_by_going_back(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        writer = TensorBoardWriter(disk / "tensorboard")
        writer.rollback(0)
        train(writer, [1])
        (disk / "filler").write_bytes(b"x" * 180_000)
        with pytest.raises(StorageError, match="no space is left"):
            train(writer, range(2, 10_000))
        folder = disk / "tensorboard" / "train"
        before = points(folder)["batch_loss"]
        with pytest.raises(StorageError, match="no space is left"):
            writer.rollback(5)
        assert points(folder)["batch_loss"] == before
        (disk / "filler").unlink()
        writer.rollback(5)
        train(writer, [6])
        writer.close()
        assert [step for step, _ in points(folder)["batch_loss"]] == [1, 2, 3, 4, 5, 6]
