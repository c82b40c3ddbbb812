"""Checkpoints with tensors: TensorFlow's bundle, damage to it, a full disk, kills at any time."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))
from checkpoint_helpers import flip_bit, names, new_store, small_disk

from harness.errors import ExitCode, StorageError
from tests.local.checkpoint_saver import content

HERE = Path(__file__).parent
DTYPES = [
    np.bool_,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.float16,
    np.float32,
    np.float64,
    np.complex64,
    np.complex128,
]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
# Any text that UTF-8 can hold: slashes, dots, emoji, control characters.
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def arrays(draw) -> np.ndarray:
    """An array of any dtype and shape; bfloat16 too, in any memory order."""
    shape = draw(SHAPES)
    if draw(st.booleans()):
        array = draw(hnp.arrays(draw(st.sampled_from(DTYPES)), shape))
        return np.asfortranarray(array) if draw(st.booleans()) else array
    return draw(hnp.arrays(np.float32, shape)).astype(ml_dtypes.bfloat16)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether dtype, shape and every bit agree (NaN too)."""
    return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tensors=st.dictionaries(NAMES, arrays(), max_size=5))
def test_every_tensor_comes_back_bit_for_bit(tmp_path_factory, tensors):
    store, _ = new_store(tmp_path_factory.mktemp("store"))
    path = store.save(3, tensors, {})
    restored = store.restore().tensors
    assert restored.keys() == tensors.keys()
    assert all(same(restored[name], np.asarray(tensors[name])) for name in tensors)
    if tensors:
        reader = tf.train.load_checkpoint(str(path / "tensors"))
        assert set(reader.get_variable_to_shape_map()) == set(tensors)
        name = next(iter(tensors))
        assert same(np.asarray(reader.get_tensor(name)), np.asarray(tensors[name]))


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "int4"])
def test_small_floats_of_ml_dtypes_come_back(tmp_path, kind):
    store, _ = new_store(tmp_path)
    array = np.arange(6, dtype=np.float32).astype(getattr(ml_dtypes, kind)).reshape(2, 3)
    store.save(1, {"a": array}, {})
    assert same(store.restore().tensors["a"], array)


def test_a_big_endian_array_and_a_numpy_scalar_come_back_equal(tmp_path):
    store, _ = new_store(tmp_path)
    store.save(1, {"a": np.arange(3, dtype=">i4"), "s": np.float32(2.5)}, {})
    restored = store.restore().tensors
    assert restored["a"].tolist() == [0, 1, 2] and restored["a"].dtype == np.int32
    assert restored["s"].shape == () and restored["s"] == np.float32(2.5)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.array(["a"]), TypeError),
        (np.array([b"a"]), TypeError),
        (np.array([object()]), TypeError),
        (np.array(["2026-01-01"], dtype="datetime64[D]"), TypeError),
        (np.ones(2, np.longdouble), TypeError),
        (np.zeros(2, [("a", "f4")]), TypeError),
        ([1.0, 2.0], TypeError),
        (1.0, TypeError),
    ],
)
def test_what_a_bundle_cannot_hold_is_refused_before_anything_is_written(tmp_path, value, error):
    store, _ = new_store(tmp_path / "checkpoints")
    with pytest.raises(error, match="weights"):
        store.save(1, {"weights": value}, {})
    with pytest.raises(ValueError, match="empty"):
        store.save(1, {"": np.ones(1)}, {})
    assert not (tmp_path / "checkpoints").exists()


def check_content(restored) -> None:
    """Asserts that a restored checkpoint is exactly what its step was saved with."""
    expected = content(restored.step)
    assert restored.tensors.keys() == expected.keys()
    assert all(same(restored.tensors[name], expected[name]) for name in expected)
    assert restored.state == {"step": restored.step}


FILES = ("tensors.index", "tensors.data-00000-of-00001", "state.json", "manifest.json")


@pytest.fixture
def two(tmp_path):
    """A store with the checkpoints 1 and 2, its log, and the path of the newer."""
    store, said = new_store(tmp_path)
    for step in (1, 2):
        store.save(step, content(step), {"step": step})
    return store, said, tmp_path / "step-00000002"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("part", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_seen_and_the_one_before_used(two, name, part):
    store, said, newest = two
    assert names(newest) == sorted(FILES)
    os.truncate(newest / name, int(part * (newest / name).stat().st_size))
    restored = store.restore()
    check_content(restored)
    assert restored.step == 1 and restored.skipped[0].step == 2
    assert name.removesuffix(".json") in said[0]


def test_a_flipped_bit_anywhere_is_seen_and_the_one_before_used(two):
    store, _, newest = two
    draws = random.Random(0)  # the same bits each time
    for name in FILES:
        size = 8 * (newest / name).stat().st_size
        for bit in (0, size - 1, *(draws.randrange(size) for _ in range(6))):
            flip_bit(newest / name, bit)
            restored = store.restore()
            assert restored.step == 1, f"bit {bit} of {name} was not seen"
            flip_bit(newest / name, bit)
    assert store.restore().step == 2


def test_a_full_disk_is_told_and_the_old_checkpoint_kept(tmp_path):
    with small_disk(tmp_path / "disk", "2m") as disk:
        store, _ = new_store(disk / "checkpoints")
        store.save(1, content(1), {"step": 1})
        with pytest.raises(StorageError, match="no space is left") as caught:
            store.save(2, {"big": np.ones(1_000_000, np.float32)}, {})
        assert caught.value.exit_code == ExitCode.STORAGE
        assert names(store.folder) == ["step-00000001"]
        check_content(store.restore())
        store.save(2, content(2), {"step": 2})
        assert store.restore().step == 2


class Saver:
    """A process that imports TensorFlow once and forks children that save without end."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "checkpoint_saver.py")],
            env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, folder: Path, first: int) -> int:
        """A child that saves the steps from ``first`` on into ``folder``; returns its id."""
        self.process.stdin.write(f"{first} {folder}\n")
        self.process.stdin.flush()
        return int(self.read().removeprefix("pid "))

    def read(self) -> str:
        """The next line: ``pid N``, ``saved STEP`` or ``ended``."""
        line = self.process.stdout.readline().strip()
        assert line, "the saver died"
        return line


@pytest.fixture(scope="module")
def saver() -> Iterator[Saver]:
    """One for all kills: importing TensorFlow takes most of the time."""
    made = Saver()
    yield made
    made.process.stdin.close()
    made.process.wait(timeout=30)


def test_twenty_kills_at_any_time_never_lose_a_committed_checkpoint(tmp_path, saver):
    draws = random.Random(1)
    store, _ = new_store(tmp_path, keep=2)
    torn, committed = 0, 0
    for _ in range(20):
        child = saver.start(tmp_path, committed + 1)
        wait_until = time.monotonic() + 10
        while not (line := saver.read()).startswith("saved"):
            assert time.monotonic() < wait_until, line
        committed = int(line.removeprefix("saved "))
        time.sleep(draws.uniform(0, 0.05))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        while (line := saver.read()) != "ended":
            committed = int(line.removeprefix("saved "))
        torn += any(name.startswith(".tmp-") for name in names(tmp_path))
        restored = store.restore()
        check_content(restored)
        assert restored.skipped == ()
        # What was told as saved is there; the next one may be, if only its message was lost.
        assert committed <= restored.step <= committed + 1
        committed = restored.step
        store.sweep()
        assert all(name.startswith("step-") for name in names(tmp_path))
    assert torn >= 3, "the kills did not hit saves, the test shows nothing"
