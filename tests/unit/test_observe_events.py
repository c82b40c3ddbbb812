"""TensorBoard event files, read record by record; no TensorFlow.

That TensorBoard itself shows one curve is tested in ``tests/local/test_observe_tensorboard.py``.
"""

from __future__ import annotations

import io
import stat
import subprocess
import sys

import numpy as np
import pytest

from harness.observe import TensorBoardWriter, eventfiles
from harness.observe.png import encode_png
from harness.runs.files import make_dir

pytest.importorskip("tensorboard")
from tensorboard.compat.proto import event_pb2

from tests.unit.events_helpers import events, points, train

HEAD = 2  # records before the first point


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


@pytest.mark.parametrize(("access", "mode"), [("private", 0o600), ("group", 0o660)])
def test_without_access_the_folder_says_it(tmp_path, access, mode):
    make_dir(tmp_path / "tensorboard", access)
    train(TensorBoardWriter(tmp_path / "tensorboard"), [1])
    (path,) = eventfiles.our_files(tmp_path / "tensorboard" / "train")
    assert stat.S_IMODE(path.stat().st_mode) == mode


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
