"""Batches of features are those of the examples: the same rows, masks, labels and weights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from PIL import Image

from harness.data.augment import Augmenter
from harness.data.content_feed import ContentFeed
from harness.data.corrupt import CorruptRecorder
from harness.data.feature_feed import FeatureFeed
from harness.data.feature_read import FeatureReader, Room
from harness.data.feature_store import BAD, GOOD, Entry, Layout
from harness.data.index import folder_index
from harness.data.known import known_of, united
from harness.data.lanes import lane_count
from harness.data.order import Order, canonical_rows
from harness.data.pack import pack
from harness.data.pack_plan import PackOptions
from harness.data.packed_examples import packed_examples
from harness.data.packing import Packing
from harness.data.pipeline import Feed
from harness.data.resampling import Resampling
from harness.data.split import split_validation
from harness.distribute.single import SingleDevice
from harness.errors import StoppedEarly, StorageError
from harness.spec.models_augment import Augment
from harness.train.feature_cache import Extraction, NotKept, Source
from harness.train.feature_filling import Filling
from harness.worker.translation import translated

SIZE, EXAMPLES = 8, 61


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """61 pictures of three classes, of very different numbers, as a folder and packed."""
    root = tmp_path_factory.mktemp("pictures") / "folder"
    rng = np.random.default_rng(3)
    for at in range(EXAMPLES):
        path = root / "abc"[at % 3 if at < 30 else 0] / f"{at:02}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 256, (12, 9 + at % 5, 3), np.uint8)).save(path)
    (root / "b" / "01.png").write_bytes(b"no picture")
    index = folder_index(root)
    packing = Packing(
        index, canonical_rows(EXAMPLES), root.parent / "packed", PackOptions(1500), None
    )
    pack(packing)
    done = packing.finish()
    assert done is not None
    return {"folder": lambda: folder_index(root), "packed": lambda: packed_examples(done.root)}


@pytest.fixture(scope="module")
def backbone():
    """Pictures to two numbers of each channel."""
    pictures = tf_keras.Input((SIZE, SIZE, 3), dtype=tf.uint8)
    x = tf_keras.layers.Rescaling(1 / 255)(pictures)
    x = tf_keras.layers.Conv2D(6, 3, kernel_initializer=tf_keras.initializers.GlorotUniform(1))(x)
    return tf_keras.Model(pictures, tf_keras.layers.GlobalAveragePooling2D()(x))


def computed(backbone, index, root: Path, *, copies=(None,), between=lambda: None, dtype="float32"):
    """Readers of the features of ``index``, one for each copy."""
    known, readers = known_of(index, index), []
    extraction = Extraction(backbone, SingleDevice(), print)
    for copy in copies:
        entry = Entry(root, {"copy": copy}, Layout.of(known.positions, (6,), dtype))
        entry.make()
        feed = ContentFeed(index, augment=None if copy is None else AUGMENTER)
        extraction.complete(entry, Source(feed, known, 8, SIZE, copy or 0), "all", between)
        readers.append(FeatureReader(entry, Room(0)))
    return readers


AUGMENTER = Augmenter(Augment(flip="both", crop_area=(0.5, 1.0), brightness=0.2), 5)
WEIGHTS = (1.0, 2.5, 4.0)


def order_of(examples: int, batch: int = 8) -> Order:
    return Order(examples, batch, lane_count(batch, None), 5, 4, 2)


def cached(index, readers, source=None, recorder=None, **more) -> FeatureFeed:
    return FeatureFeed(
        known_of(index, source if source is not None else index),
        readers,
        examples=len(index),
        blame=lambda row, name: ContentFeed(index).blame(row, name),
        recorder=recorder,
        **more,
    )


def assert_same(features, examples, backbone, count: int) -> None:
    """Equal rows, and the features that the examples have where they count."""
    pairs = zip(features.take(count), examples.take(count), strict=True)
    for one, other in pairs:
        for name in ("label", "mask", "weight", "index"):
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        counts = other["mask"].numpy() > 0
        wanted = backbone(other["image"], training=False).numpy()
        np.testing.assert_allclose(one["features"].numpy()[counts], wanted[counts], atol=1e-6)
        assert counts.any()


@pytest.mark.parametrize("kind", ["folder", "packed"])
def test_training_has_the_rows_of_the_examples(sets, kind, backbone, tmp_path) -> None:
    index = sets[kind]()
    order = order_of(EXAMPLES, 16)
    feed = cached(index, computed(backbone, index, tmp_path), order=order, class_weights=WEIGHTS)
    plain = Feed(index, order=order, class_weights=WEIGHTS)
    for epoch, step, rank, parts, devices in [(0, 0, 0, 1, 1), (1, 2, 1, 2, 2)]:
        asked = {"parts": parts, "devices": devices}
        assert_same(
            feed.training(epoch, step, rank, 1 + rank, **asked),
            plain.training(epoch, step, SIZE, rank, 1 + rank, **asked),
            backbone,
            2 * order.steps_per_epoch,
        )


@pytest.mark.parametrize("kind", ["folder", "packed"])
def test_splits_of_one_set_share_its_features(sets, kind, backbone, tmp_path) -> None:
    index = sets[kind]()
    parts = index.split(0.3, 7) if kind == "packed" else split_validation(index, 0.3, 7)
    source = united(*parts)
    assert len(source) == EXAMPLES
    other = index.split(0.3, 8) if kind == "packed" else split_validation(index, 0.3, 8)
    again = united(*other)
    if kind == "folder":
        assert list(source.names) == list(again.names) == list(index.names)
        assert list(source.mtimes) == list(index.mtimes)
    readers = computed(backbone, source, tmp_path)
    for part in (*parts, *other):
        order = order_of(len(part))
        feed = cached(part, readers, source, order=order)
        plain = Feed(part, order=order)
        assert_same(
            feed.training(0, 0, 0, 1),
            plain.training(0, 0, SIZE),
            backbone,
            order.steps_per_epoch + 1,
        )


def test_parts_of_different_sets_are_not_taken_together(sets) -> None:
    folder, packed = sets["folder"](), sets["packed"]()
    assert united(folder, folder) is None
    assert united(folder, packed) is None
    assert united(split_validation(folder, 0.3, 7)[0], split_validation(folder, 0.3, 8)[0]) is None
    assert united(packed, packed.split(0.3, 7)[1]) is None


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_pass_has_each_example_once(sets, ranks, backbone, tmp_path) -> None:
    index = sets["folder"]()
    feed = cached(index, computed(backbone, index, tmp_path))
    seen: list[int] = []
    for rank in range(ranks):
        for batch in feed.evaluation(8, rank, ranks).take(-(-EXAMPLES // 8)):
            assert batch["features"].shape == (8 // ranks, 6)
            seen += batch["index"].numpy()[batch["mask"].numpy() > 0].tolist()
    corrupt = list(index.names).index("b/01.png")
    assert sorted(seen) == [row for row in range(EXAMPLES) if row != corrupt]


@pytest.mark.parametrize("kind", ["folder", "packed"])
def test_a_corrupt_example_is_named_by_those_who_read_its_features(
    sets, kind, backbone, tmp_path
) -> None:
    index = sets[kind]()
    computed(backbone, index, tmp_path)
    for _ in range(2):  # by the run that computes them, and by one that finds them
        recorder = CorruptRecorder(EXAMPLES, limit=1.0)
        order = order_of(EXAMPLES)
        feed = cached(index, computed(backbone, index, tmp_path), recorder=recorder, order=order)
        batches = list(feed.training(0, 0, 0, 1).take(order.steps_per_epoch))
        assert sum(float(tf.reduce_sum(batch["mask"])) for batch in batches) == EXAMPLES - 1
        ((name, reason),) = recorder.reasons.items()
        assert name == "b/01.png"
        assert reason


def test_changed_copies_are_those_of_the_epochs(sets, backbone, tmp_path) -> None:
    index = sets["folder"]()
    order = order_of(EXAMPLES)
    readers = computed(backbone, index, tmp_path, copies=(0, 1))
    feed, plain = cached(index, readers, order=order), Feed(index, order=order, augment=AUGMENTER)
    steps = order.steps_per_epoch
    assert_same(feed.training(0, 0, 0, 1), plain.training(0, 0, SIZE), backbone, 2 * steps)
    # The third epoch has the first copies again, in an order of its own.
    first, third = {}, {}
    for epoch, found in ((0, first), (2, third)):
        for batch in feed.training(epoch, 0, 0, 1).take(steps):
            rows, features = batch["index"].numpy(), batch["features"].numpy()
            found |= {int(r): f for r, f in zip(rows, features, strict=True)}
    np.testing.assert_array_equal(
        [first[r] for r in sorted(first)], [third[r] for r in sorted(third)]
    )


def test_resampling_takes_the_same_examples(sets, backbone, tmp_path) -> None:
    index = sets["folder"]()
    resampling = Resampling(index.labels, "oversample", 5)
    order = order_of(len(resampling))
    feed = cached(index, computed(backbone, index, tmp_path), order=order, resampling=resampling)
    plain = Feed(index, order=order, resampling=resampling)
    assert_same(
        feed.training(0, 0, 0, 1), plain.training(0, 0, SIZE), backbone, order.steps_per_epoch
    )


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
