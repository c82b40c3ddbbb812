"""Files of TensorBoard, as TensorFlow reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.observe import eventfiles

pytest.importorskip("tensorboard")
from tensorboard.compat.proto import event_pb2


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
