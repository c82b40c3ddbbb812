"""TensorBoard event files, read record by record; no TensorFlow.

That TensorBoard itself shows one curve is tested in ``tests/local/test_observe_tensorboard.py``.
"""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoint_helpers import small_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import StorageError
from harness.observe import TensorBoardWriter, eventfiles
from harness.observe.png import encode_png
from harness.runs.files import make_dir

pytest.importorskip("tensorboard")
from tensorboard.compat.proto import event_pb2

HEAD = 2  # records before the first point


def events(folder: Path) -> list[event_pb2.Event]:
    """All events of our files in a folder, in the order TensorBoard reads them."""
    return [
        event_pb2.Event.FromString(data)
        for path in eventfiles.our_files(folder)
        for data, _ in eventfiles.read_records(path)
    ]


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by tag, as a reader that knows no marks sees them."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.tensor.float_val:
                point = (event.step, value.tensor.float_val[0])
                found.setdefault(value.tag, []).append(point)
    return found


def train(writer, steps, value=1.0, per_epoch=10) -> None:
    """Training points by step, and by epoch with a validation at the end of each epoch."""
    for step in steps:
        epoch = (step - 1) // per_epoch
        where = {"epoch": epoch, "phase": "head"}
        writer.scalars(step, {"loss": value, "learning_rate": 0.5}, split="train", **where)
        if step % per_epoch == 0:
            writer.scalars(step, {"loss": value}, split="train", epoch_end=True, **where)
            writer.scalars(step, {"loss": value}, split="val", **where)


def test_tags_and_folders_are_those_of_the_keras_callback(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    train(writer, [10])
    writer.scalars(10, {"input/wait": 0.25}, split="train", epoch=0, phase="head")
    writer.scalars(10, {"accuracy": 0.75}, split="test", epoch=0, phase="head")
    writer.close()
    assert points(tmp_path / "train") == {
        "batch_loss": [(10, 1.0)],
        "learning_rate": [(10, 0.5)],
        "epoch_loss": [(0, 1.0)],
        "input/wait": [(10, 0.25)],
    }
    assert points(tmp_path / "validation") == {
        "evaluation_loss_vs_iterations": [(10, 1.0)],
        "epoch_loss": [(0, 1.0)],
    }
    assert set(points(tmp_path / "test")) == {
        "evaluation_accuracy_vs_iterations",
        "epoch_accuracy",
    }


def test_values_that_are_not_finite_and_names_in_unicode_are_kept(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    values = {"a": float("nan"), "b": float("inf"), "ü": 1e300}
    writer.scalars(1, values, split="train", epoch=0, phase="p")
    found = points(tmp_path / "train")
    assert np.isnan(found["batch_a"][0][1])
    assert found["batch_b"] == found["batch_ü"] == [(1, float("inf"))]


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


@pytest.mark.parametrize(("access", "mode"), [("private", 0o600), ("group", 0o660)])
def test_without_access_the_folder_says_it(tmp_path, access, mode):
    make_dir(tmp_path / "tensorboard", access)
    train(TensorBoardWriter(tmp_path / "tensorboard"), [1])
    (path,) = eventfiles.our_files(tmp_path / "tensorboard" / "train")
    assert stat.S_IMODE(path.stat().st_mode) == mode


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


def test_every_file_begins_with_version_and_start_and_sorts_last(tmp_path, monkeypatch):
    writer = TensorBoardWriter(tmp_path)
    train(writer, [1])
    writer.close()
    (first,) = eventfiles.our_files(tmp_path / "train")
    # A requeue on a host whose clock is an hour behind.
    now = eventfiles.time.time()
    monkeypatch.setattr(eventfiles.time, "time", lambda: now - 3600)
    writer = TensorBoardWriter(tmp_path)
    writer.rollback(1)
    (second,) = eventfiles.our_files(tmp_path / "train")
    assert second.name > first.name and not first.exists()
    head = events(tmp_path / "train")[:HEAD]
    assert head[0].file_version == "brain.Event:2"
    assert head[1].session_log.status == event_pb2.SessionLog.START and head[1].step == 0


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


def test_pictures_are_png_of_their_size(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (2, 5, 7, 3), np.uint8)
    writer = TensorBoardWriter(tmp_path)
    writer.images(3, "inputs", images, split="train")
    writer.images(3, "none", images[:0], split="train")
    (event,) = [e for e in events(tmp_path / "train") if e.summary.value]
    (value,) = event.summary.value
    width, height, *encoded = value.tensor.string_val
    assert (event.step, value.tag, width, height) == (3, "inputs", b"7", b"5")
    for data, image in zip(encoded, images, strict=True):
        np.testing.assert_array_equal(np.asarray(pillow.open(io.BytesIO(data))), image)


def test_without_media_no_picture_is_written(tmp_path):
    writer = TensorBoardWriter(tmp_path, media=False)
    writer.images(3, "inputs", np.full((1, 4, 4, 3), 7, np.uint8), split="train")
    writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "image",
    [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3)), np.zeros((0, 2, 3), np.uint8)],
)
def test_a_picture_of_another_kind_is_refused(image):
    with pytest.raises(ValueError):
        encode_png(image)


def test_a_text_is_written_once_and_again_only_when_it_changes(tmp_path):
    for attempt, text in enumerate(["a: 1", "a: 1", "a: 2"]):
        writer = TensorBoardWriter(tmp_path)
        writer.rollback(attempt)
        writer.text("spec", text)
        writer.text("spec", text)
        train(writer, [attempt + 1])
        writer.close()
    found = [
        (event.step, value.tensor.string_val[0].decode())
        for event in events(tmp_path / "train")
        for value in event.summary.value
        if value.tag == "spec"
    ]
    assert found == [(0, "a: 1"), (2, "a: 2")]


@pytest.mark.parametrize(("access", "mode"), [("private", 0o600), ("group", 0o660)])
def test_modes_are_those_of_access(tmp_path, access, mode):
    writer = TensorBoardWriter(tmp_path / "tensorboard", access=access)
    train(writer, [1])
    for _ in range(2):
        (path,) = eventfiles.our_files(tmp_path / "tensorboard" / "train")
        assert stat.S_IMODE(path.stat().st_mode) == mode
        writer.rollback(1)


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


def test_a_closed_writer_says_so(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        train(writer, [1])


def test_writing_needs_no_tensorflow(tmp_path):
    code = (
        "import sys; import numpy as np\n"
        "from harness.observe import TensorBoardWriter\n"
        "w = TensorBoardWriter(sys.argv[1]); w.rollback(0)\n"
        "w.scalars(1, {'loss': 1.0}, split='val', epoch=0, phase='p')\n"
        "w.images(1, 'a', np.zeros((1, 2, 2, 3), 'uint8'), split='val')\n"
        "w.text('a', 'b'); w.rollback(0); w.close()\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == 0
