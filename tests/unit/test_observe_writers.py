"""Metric writers: JSON lines, several at once, in memory; files that grow by whole pieces."""

from __future__ import annotations

import math
import os
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import StorageError
from harness.observe import JsonlWriter, MemoryWriter, MultiWriter
from harness.observe.jsonl import RESERVED
from harness.runs.paths import RunPaths
from tests.unit.writers_helpers import lines, paths, strict, train

__all__ = ["paths"]  # a fixture, found by its name


def test_a_line_has_the_promised_keys_in_order(paths):
    writer = JsonlWriter(paths, attempt=2)
    values = {"loss": 0.5, "accuracy": np.float32(0.25), "n": 3}
    writer.scalars(10, values, split="train", epoch=1, phase="head")
    writer.scalars(10, {"loss": 0.75}, split="val", epoch=1, phase="head")
    writer.close()
    first, second = lines(paths.metrics)
    assert first.pop("time").endswith("Z")
    assert list(first.items()) == [
        ("step", 10),
        ("epoch", 1),
        ("phase", "head"),
        ("split", "train"),
        ("attempt", 2),
        ("loss", 0.5),
        ("accuracy", 0.25),
        ("n", 3.0),
    ]
    assert second["split"] == "val" and second["epoch_end"] is True
    assert stat.S_IMODE(paths.metrics.stat().st_mode) == 0o600


def test_what_is_not_finite_is_null_and_named(paths):
    writer = JsonlWriter(paths, 1)
    values = {"loss": math.nan, "a": math.inf, "b": -math.inf, "c": 1.0}
    writer.scalars(1, values, split="test", epoch=0, phase="p")
    (line,) = lines(paths.metrics)
    assert [line[name] for name in values] == [None, None, None, 1.0]
    assert line["nonfinite"] == ["loss", "a", "b"]


def test_a_line_is_there_as_soon_as_it_is_written(paths):
    writer = JsonlWriter(paths, 1)
    train(writer, 1)
    assert len(lines(paths.metrics)) == 1
    writer.flush()
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        train(writer, 2)


@pytest.mark.parametrize("name", RESERVED)
def test_a_metric_with_a_reserved_name_is_refused(paths, name):
    with pytest.raises(ValueError, match=name):
        JsonlWriter(paths, 1).scalars(1, {name: 1.0}, split="train", epoch=0, phase="p")
    assert lines(paths.metrics) == []


@pytest.mark.parametrize("make", [lambda paths: JsonlWriter(paths, 1), lambda _: MemoryWriter()])
@pytest.mark.parametrize(
    ("step", "split", "error"),
    [(-1, "train", ValueError), (1.5, "train", TypeError), (1, "validation", ValueError)],
)
def test_a_wrong_step_or_split_is_refused(paths, make, step, split, error):
    with pytest.raises(error):
        make(paths).scalars(step, {}, split=split, epoch=0, phase="p")


def test_unicode_in_names_stays_on_one_line(paths):
    writer = JsonlWriter(paths, 1)
    values = {"Größe\u2028\n": 1.0, "\ud800": 2.0}
    writer.scalars(1, values, split="train", epoch=0, phase="p\n")
    (line,) = paths.metrics.read_bytes().splitlines()
    assert strict(line.decode())["Größe\u2028\n"] == 1.0


def test_rollback_moves_later_lines_and_no_step_is_there_twice(paths):
    first = JsonlWriter(paths, 1)
    first.rollback(0)
    train(first, 10, 20, 30)
    first.close()
    second = JsonlWriter(paths, 2)
    second.rollback(20)
    train(second, 30, 40)
    second.close()
    assert [(line["step"], line["attempt"]) for line in lines(paths.metrics)] == [
        (10, 1),
        (20, 1),
        (30, 2),
        (40, 2),
    ]
    assert [(one["step"], one["attempt"]) for one in lines(paths.metrics_superseded)] == [(30, 1)]


def test_a_rollback_with_nothing_to_move_changes_no_file(paths):
    writer = JsonlWriter(paths, 1)
    train(writer, 1, 2)
    before = paths.metrics.stat()
    writer.rollback(2)
    assert paths.metrics.stat().st_ino == before.st_ino
    assert not paths.metrics_superseded.exists()


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b'{"step"', b"\xff\xfe", b"\0" * 9, b"7"])
def test_a_torn_last_line_is_repaired_and_kept_aside(paths, torn):
    train(JsonlWriter(paths, 1), 1, 2)
    with paths.metrics.open("ab") as stream:
        stream.write(torn)
    writer = JsonlWriter(paths, 2)
    train(writer, 3)
    assert [line["step"] for line in lines(paths.metrics)] == [1, 2, 3]
    assert [list(line) for line in lines(paths.metrics_superseded)] == [["torn"]]


def test_a_last_line_that_only_lacks_its_newline_is_kept(paths):
    train(JsonlWriter(paths, 1), 1, 2)
    os.truncate(paths.metrics, paths.metrics.stat().st_size - 1)
    train(JsonlWriter(paths, 2), 3)
    assert [line["step"] for line in lines(paths.metrics)] == [1, 2, 3]


def test_a_kill_between_the_two_files_leaves_no_copy_behind(paths, monkeypatch):
    import harness.observe.jsonl as module

    writer = JsonlWriter(paths, 1)
    train(writer, 1, 2, 3)
    really = module.write_atomic

    def only_superseded(path, data):
        if path == paths.metrics:
            raise StorageError("killed here")
        really(path, data)

    monkeypatch.setattr(module, "write_atomic", only_superseded)
    with pytest.raises(StorageError):
        writer.rollback(1)
    train(writer, 4)
    monkeypatch.undo()
    JsonlWriter(paths, 2).rollback(1)
    assert [line["step"] for line in lines(paths.metrics)] == [1]
    assert [line["step"] for line in lines(paths.metrics_superseded)] == [2, 3, 4]


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.lists(st.integers(1, 5), max_size=6)),
        min_size=1,
        max_size=5,
    )
)
def test_any_course_of_attempts_gives_one_rising_curve(tmp_path_factory, attempts):
    """Each attempt goes back to some step that was reached and adds steps of some sizes."""
    paths = RunPaths.create(tmp_path_factory.mktemp("runs") / "run", "private")
    memory, reached, written = MemoryWriter(), 0, 0
    for attempt, (back, sizes) in enumerate(attempts):
        jsonl = JsonlWriter(paths, attempt)
        writer = MultiWriter([jsonl, memory])
        reached = min(back, reached)
        writer.rollback(reached)
        for size in sizes:
            reached += size
            train(writer, reached, loss=attempt)
            written += 1
        writer.close()
    curve = [(line["step"], line["loss"]) for line in lines(paths.metrics)]
    assert curve == memory.curve("loss")
    assert [step for step, _ in curve] == sorted({step for step, _ in curve})
    aside = lines(paths.metrics_superseded) if paths.metrics_superseded.exists() else []
    assert len(curve) + len(aside) == written


class Broken(MemoryWriter):
    """Fails at everything."""

    def scalars(self, *args, **kwargs):
        raise StorageError("first")

    def close(self):
        raise StorageError("first")


class BrokenToo(MemoryWriter):
    def scalars(self, *args, **kwargs):
        raise StorageError("second")


def test_every_writer_gets_its_call_and_the_first_error_is_raised():
    memory = MemoryWriter()
    writer = MultiWriter([Broken(), BrokenToo(), memory])
    with pytest.raises(StorageError, match="first"):
        train(writer, 1)
    with pytest.raises(StorageError, match="first"):
        writer.close()
    assert memory.curve("loss") == [(1, 1.0)] and memory.closed


def test_the_memory_writer_keeps_all_and_goes_back():
    memory = MemoryWriter()
    writer = MultiWriter([memory])
    picture = np.zeros((2, 3, 4, 3), np.uint8)
    train(writer, 1, 2, 3)
    writer.scalars(3, {"loss": 2.0}, split="val", epoch=0, phase="head")
    writer.images(3, "worst", picture, split="val")
    writer.text("spec", "a: 1")
    writer.flush()
    assert memory.curve("loss", split="val") == [(3, 2.0)]
    assert [record.epoch_end for record in memory.records] == [False] * 3 + [True]
    assert memory.texts == [("spec", "a: 1")] and memory.flushed == 1
    writer.rollback(2)
    assert memory.curve("loss") == [(1, 1.0), (2, 1.0)] and memory.pictures == []


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 3, 4, 3), np.float32),
        np.zeros((3, 4, 3), np.uint8),
        np.zeros((1, 3, 4, 1), np.uint8),
        np.zeros((1, 0, 4, 3), np.uint8),
    ],
)
def test_pictures_of_another_kind_are_refused(images):
    with pytest.raises(ValueError):
        MemoryWriter().images(1, "tag", images, split="train")
