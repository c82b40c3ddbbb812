"""Batches of features are those of the examples: the same rows, masks, labels and weights."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from harness.data.corrupt import CorruptRecorder
from harness.data.known import united
from harness.data.pipeline import Feed
from harness.data.resampling import Resampling
from harness.data.split import split_validation
from tests.local.feature_helpers import (
    AUGMENTER,
    EXAMPLES,
    SIZE,
    WEIGHTS,
    backbone,
    cached,
    computed,
    order_of,
    sets,
)

__all__ = ["backbone", "sets"]


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
