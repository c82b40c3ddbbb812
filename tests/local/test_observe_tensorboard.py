"""TensorBoard itself on our event files: one curve over restarts, in every way it can read.

The slow reader (``--load_fast false``), the fast data server, both as real processes asked over
HTTP, both also while they look on during a rollback; and the accumulator that scripts use.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tf_keras
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harness.observe import TensorBoardWriter

PER_EPOCH = 10
ATTEMPTS = ((0, 35), (12, 47), (30, 50))


def attempt(folder: Path, start: int, end: int) -> TensorBoardWriter:
    """Goes on from ``start`` and trains to ``end``; the value of a point is the attempt's start."""
    writer = TensorBoardWriter(folder)
    writer.rollback(start)
    writer.text("spec", "a: 1")
    for step in range(start + 1, end + 1):
        where = {"epoch": (step - 1) // PER_EPOCH, "phase": "head"}
        writer.scalars(step, {"loss": float(start)}, split="train", **where)
        if step % PER_EPOCH == 0:
            writer.scalars(step, {"loss": float(start)}, split="train", epoch_end=True, **where)
            writer.scalars(step, {"loss": float(start)}, split="val", **where)
    writer.flush()
    return writer


def expected_by_step(attempts=ATTEMPTS) -> list[tuple[int, float]]:
    """The curve of ``batch_loss`` after the attempts."""
    curve: dict[int, float] = {}
    for start, end in attempts:
        curve = {step: value for step, value in curve.items() if step <= start}
        curve |= dict.fromkeys(range(start + 1, end + 1), float(start))
    return sorted(curve.items())


def expected_by_epoch(attempts=ATTEMPTS) -> list[tuple[int, float]]:
    """The curve of ``epoch_loss`` after the attempts."""
    curve = expected_by_step(attempts)
    return [(step // PER_EPOCH - 1, value) for step, value in curve if step % PER_EPOCH == 0]


def test_the_accumulator_of_scripts_sees_one_curve(tmp_path):
    for start, end in ATTEMPTS:
        attempt(tmp_path, start, end).close()
    for split in ("train", "validation"):
        seen = EventAccumulator(str(tmp_path / split), size_guidance={"tensors": 0})
        seen.Reload()
        tags = set(seen.Tags()["tensors"])
        curves = {
            tag: [(e.step, e.tensor_proto.float_val[0]) for e in seen.Tensors(tag)]
            for tag in tags - {"spec"}
        }
        assert curves["epoch_loss"] == expected_by_epoch()
        if split == "train":
            assert curves["batch_loss"] == expected_by_step()
            assert [event.step for event in seen.Tensors("spec")] == [0]


def test_the_layout_is_that_of_the_keras_callback(tmp_path):
    """The callback's own files, for the tags and the steps that both write."""
    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    data = np.zeros((8, 2), np.float32), np.zeros((8, 1), np.float32)
    # Without write_steps_per_second the callback writes no points by step.
    callback = tf_keras.callbacks.TensorBoard(
        tmp_path / "keras", update_freq=1, write_graph=False, write_steps_per_second=True
    )
    model.fit(*data, batch_size=4, epochs=2, validation_data=data, callbacks=[callback], verbose=0)
    writer = TensorBoardWriter(tmp_path / "ours")
    for step in range(1, 5):
        where = {"epoch": (step - 1) // 2, "phase": "head"}
        writer.scalars(step, {"loss": 1.0}, split="train", **where)
        if step % 2 == 0:
            writer.scalars(step, {"loss": 1.0}, split="train", epoch_end=True, **where)
            writer.scalars(step, {"loss": 1.0}, split="val", **where)
    writer.close()
    for split in ("train", "validation"):
        both = []
        for name in ("keras", "ours"):
            seen = EventAccumulator(str(tmp_path / name / split), size_guidance={"tensors": 0})
            seen.Reload()
            tags = seen.Tags()["tensors"]
            both.append({tag: [event.step for event in seen.Tensors(tag)] for tag in tags})
        keras, ours = both
        assert {tag: keras.get(tag) for tag in ours} == ours


# TensorBoard as it is where no TensorFlow is installed (a laptop); it starts much faster.
ALONE = """
import sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")
from tensorboard.main import run_main
run_main()
"""


class TensorBoard:
    """A TensorBoard process over a folder, with TensorFlow behind it or without."""

    def __init__(self, folder: Path, *, fast: bool, alone: bool) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, *(["-c", ALONE] if alone else ["-m", "tensorboard.main"])]
        command += ["--logdir", str(folder)]
        command += ["--load_fast", str(fast).lower(), "--reload_interval", "1"]
        command += ["--port", str(self.port)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def curve(self, run: str, tag: str) -> list[tuple[int, float]]:
        """(step, value) as the scalars page shows it; [] while the tag is unknown."""
        query = urllib.parse.urlencode({"run": run, "tag": tag, "format": "json"})
        url = f"http://127.0.0.1:{self.port}/data/plugin/scalars/scalars?{query}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return [(step, value) for _, step, value in json.load(answer)]
        except urllib.error.HTTPError:
            return []
        except urllib.error.URLError:
            assert self.process.poll() is None, self.process.stderr.read().decode()
            return []

    def wait_for(self, run: str, tag: str, expected: list[tuple[int, float]]) -> None:
        """Asserts that the page comes to show ``expected``."""
        deadline = time.monotonic() + 45
        while (seen := self.curve(run, tag)) != expected and time.monotonic() < deadline:
            time.sleep(0.2)
        assert seen == expected


@pytest.fixture
def both_readers(tmp_path) -> Iterator[Callable[..., list[TensorBoard]]]:
    """Starts a slow and a fast TensorBoard over ``tmp_path``; ends them with the test."""
    boards: list[TensorBoard] = []

    def start(*, alone: bool) -> list[TensorBoard]:
        boards.extend(TensorBoard(tmp_path, fast=fast, alone=alone) for fast in (False, True))
        return boards

    yield start
    for board in boards:
        board.process.terminate()  # ends the data server too
    for board in boards:
        board.process.wait(timeout=20)
        board.process.stderr.close()


def test_tensorboards_started_afterwards_show_one_curve(tmp_path, both_readers):
    for start, end in ATTEMPTS:
        attempt(tmp_path, start, end).close()
    for board in both_readers(alone=True):
        board.wait_for("train", "batch_loss", expected_by_step())
        board.wait_for("train", "epoch_loss", expected_by_epoch())
        board.wait_for("validation", "epoch_loss", expected_by_epoch())


def test_tensorboards_that_look_on_show_one_curve(tmp_path, both_readers):
    boards = both_readers(alone=False)
    for number in range(1, len(ATTEMPTS) + 1):
        attempt(tmp_path, *ATTEMPTS[number - 1]).close()
        for board in boards:
            board.wait_for("train", "batch_loss", expected_by_step(ATTEMPTS[:number]))
            board.wait_for("train", "epoch_loss", expected_by_epoch(ATTEMPTS[:number]))
