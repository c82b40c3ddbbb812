"""Features computed once: after stops, failures and mended files, and never half of them."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from harness.data.feature_store import BAD, GOOD, Entry, Layout
from harness.data.index import folder_index
from harness.data.pipeline import Feed
from harness.errors import StoppedEarly, StorageError
from harness.train.feature_cache import NotKept
from harness.train.feature_filling import Filling
from harness.worker.translation import translated
from tests.local.feature_helpers import (
    EXAMPLES,
    SIZE,
    backbone,
    cached,
    computed,
    sets,
)

__all__ = ["backbone", "sets"]


def test_what_is_done_is_not_done_again_after_a_stop(sets, backbone, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("harness.data.feature_store._LEAST_ROWS", 16)
    index, calls = sets["folder"](), []

    def stop() -> None:
        calls.append(len(list(tmp_path.glob("features/*/chunk-*"))))
        if calls[-1] >= 2:
            raise StoppedEarly("asked to")

    with pytest.raises(StoppedEarly):
        computed(backbone, index, tmp_path, between=stop)
    there = {path: path.stat().st_mtime_ns for path in tmp_path.glob("features/*/chunk-*")}
    assert 2 <= len(there) < 4
    (reader,) = computed(backbone, index, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    feed, plain = cached(index, [reader]), Feed(index)
    assert reader.entry.missing() == []
    rows = {}
    for batch in plain.evaluation(8, SIZE):
        values = backbone(batch["image"], training=False).numpy()
        rows |= {int(r): v for r, v in zip(batch["index"].numpy(), values, strict=True)}
    for batch in feed.evaluation(8):
        for row, mask, found in zip(
            *(batch[k].numpy() for k in ("index", "mask", "features")), strict=True
        ):
            if mask:
                np.testing.assert_allclose(found, rows[int(row)], atol=1e-6)


def test_a_chunk_that_was_changed_is_computed_again_and_said(
    sets, backbone, tmp_path, capsys
) -> None:
    index = sets["folder"]()
    (reader,) = computed(backbone, index, tmp_path)
    path = reader.entry.folder / "chunk-00000.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    computed(backbone, index, tmp_path)
    assert "1 of 1 files" in capsys.readouterr().out
    assert path.read_bytes() == whole


def test_features_beyond_half_precision_are_refused(sets, tmp_path) -> None:
    pictures = tf_keras.Input((SIZE, SIZE, 3), dtype=tf.uint8)
    large = tf_keras.layers.Rescaling(1e4)(pictures)
    backbone = tf_keras.Model(pictures, tf_keras.layers.Lambda(lambda x: x[:, 0, :2, :])(large))
    flat = tf_keras.Model(pictures, tf_keras.layers.Reshape((6,))(backbone(pictures)))
    with pytest.raises(NotKept, match="too large for float16"):
        computed(flat, sets["folder"](), tmp_path, dtype="float16")
    assert not list(tmp_path.glob("features/*/chunk-*"))


def test_what_can_be_read_again_is_computed_again(sets, backbone, tmp_path, capsys) -> None:
    """A file that was out of reach when others computed its features."""
    folder = sets["folder"]().root
    own, cache = tmp_path / "own", tmp_path / "cache"
    cache.mkdir()
    shutil.copytree(folder, own)
    broken = own / "b" / "01.png"
    held = (own / "b" / "04.png").read_bytes()
    broken.write_bytes(bytes(len(held)))
    times = broken.stat()
    (reader,) = computed(backbone, folder_index(own), cache)
    assert (reader.take(np.arange(EXAMPLES)).state == BAD).sum() == 1
    computed(backbone, folder_index(own), cache)
    assert "can be read now" not in capsys.readouterr().out
    broken.write_bytes(held)
    os.utime(broken, ns=(times.st_atime_ns, times.st_mtime_ns))
    (again,) = computed(backbone, folder_index(own), cache)
    assert "examples in 1 of 1 files" in capsys.readouterr().out
    assert (again.take(np.arange(EXAMPLES)).state == GOOD).all()


def test_a_cache_that_cannot_be_written_ends_it_in_words(
    sets, backbone, tmp_path, monkeypatch
) -> None:
    def full(self, number, chunk) -> None:
        raise StorageError("no space is left")

    monkeypatch.setattr(Entry, "write", full)
    with pytest.raises(NotKept, match="no space is left"):
        computed(backbone, sets["folder"](), tmp_path)


@pytest.mark.parametrize("examples", [0, 3])
def test_chunks_without_examples_of_a_split_are_written_too(examples, tmp_path) -> None:
    """A rank may have none but such: it computes something all the same, as others go on."""

    class Known:
        def first_from(self, position: int) -> int:
            return 0 if position <= 256 else examples

        def numbers(self, ranks: np.ndarray) -> np.ndarray:
            return ranks

        def at(self, numbers: np.ndarray) -> Any:
            return SimpleNamespace(position=256 + numbers)

    entry = Entry(tmp_path, {}, Layout.of(700, (2,), "float32"))
    entry.make()
    filling = Filling(entry, Known(), [0, 1, 2])
    assert filling.count == examples
    np.testing.assert_array_equal(
        filling.ranks(np.arange(max(1, examples))), np.arange(max(1, examples))
    )
    some = np.ones((8, 2), np.float32), np.ones(8, np.float32), np.ones(8, np.int32)
    filling.add(*some)
    filling.finish()
    assert entry.missing() == []
    states = np.concatenate([entry.read(number).state for number in range(3)])
    assert np.flatnonzero(states == GOOD).tolist() == list(range(256, 256 + examples))


def test_features_that_went_are_an_error_of_storage_in_a_run_too(sets, backbone, tmp_path) -> None:
    index = sets["folder"]()
    (reader,) = computed(backbone, index, tmp_path)
    feed = cached(index, [reader])
    next(iter((tmp_path / "features").glob("*/chunk-00000.bin"))).unlink()
    with pytest.raises(Exception, match="gone from the cache") as caught:
        list(feed.evaluation(8))
    known = translated(caught.value, "x")
    assert isinstance(known, StorageError)
    assert "run the same command again" in str(known)


def test_what_another_rank_ended_is_not_written(tmp_path) -> None:
    class Known:
        def first_from(self, position: int) -> int:
            return min(position, 700)

        def numbers(self, ranks: np.ndarray) -> np.ndarray:
            return ranks

        def at(self, numbers: np.ndarray) -> Any:
            return SimpleNamespace(position=numbers)

    entry = Entry(tmp_path, {}, Layout.of(700, (2,), "float32"))
    entry.make()
    filling = Filling(entry, Known(), [0, 1, 2])
    filling.add(np.ones((300, 2), np.float32), np.ones(300, np.float32), np.ones(300, np.int32))
    filling.finish()
    assert filling.written == [0]
    assert filling.failure is None
    assert entry.missing() == [1, 2]
