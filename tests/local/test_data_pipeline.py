"""The pipelines on real image files: order, masks, replicas, corrupt files, evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.index import folder_index

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")
from harness.data.decode import prepare_image  # noqa: E402
from harness.data.order import canonical_rows  # noqa: E402
from harness.data.pipeline import Feed  # noqa: E402
from tests.local.pipeline_helpers import (  # noqa: E402
    AUGMENT,
    SIZE,
    assert_equal,
    feed_of,
    photos,
    take,
)

__all__ = ["photos"]  # a fixture, found by its name


def test_batches_are_as_promised(photos):
    feed = feed_of(photos)
    dataset = feed.training(0, 0, SIZE)
    spec = {name: (tuple(s.shape), s.dtype.name) for name, s in dataset.element_spec.items()}
    assert spec == {
        "image": ((8, SIZE, SIZE, 3), "uint8"),
        "label": ((8,), "int32"),
        "mask": ((8,), "float32"),
        "weight": ((8,), "float32"),
        "index": ((8,), "int64"),
    }
    assert feed.steps_per_epoch == 6
    batches = take(dataset, 12)
    for epoch in range(2):
        part = batches[6 * epoch : 6 * epoch + 6]
        rows = np.concatenate([b["index"][b["mask"] == 1] for b in part])
        assert sorted(rows) == list(range(45))
        canonical, mask = feed.order.batch(epoch, tf.range(6, dtype=tf.int64))
        wanted = canonical_rows(45)[canonical]
        np.testing.assert_array_equal([b["index"] for b in part], wanted)
        np.testing.assert_array_equal([b["mask"] for b in part], mask)
    index = feed.index
    for batch in batches[:2]:
        np.testing.assert_array_equal(batch["label"], [index.labels[i] for i in batch["index"]])
        for image, row in zip(batch["image"], batch["index"], strict=True):
            contents = tf.constant((index.root / index.names[row]).read_bytes())
            np.testing.assert_array_equal(image, prepare_image(contents, SIZE))


@pytest.mark.parametrize("augment", [None, AUGMENT], ids=["plain", "augmented"])
def test_a_late_start_gives_the_tail_and_threads_do_not_matter(photos, augment):
    whole = take(feed_of(photos, augment=augment).training(0, 0, SIZE), 14)
    assert_equal(take(feed_of(photos, augment=augment).training(0, 4, SIZE), 4), whole[4:8])
    assert_equal(
        take(feed_of(photos, augment=augment, threads=1).training(1, 5, SIZE), 3), whole[11:]
    )


def test_augmentation_depends_on_epoch_and_example_alone(photos):
    feed, other = feed_of(photos, augment=AUGMENT), feed_of(photos, augment=AUGMENT, batch=5)

    def images(feed, epoch):
        batches = take(feed.training(epoch, 0, SIZE), feed.steps_per_epoch)
        rows = (zip(b["index"], b["image"], b["mask"], strict=True) for b in batches)
        return {row: image for batch in rows for row, image, mask in batch if mask}

    first, again, later = images(feed, 0), images(other, 0), images(feed, 1)
    assert all((first[row] == again[row]).all() for row in range(45))
    assert sum((first[row] != later[row]).any() for row in range(45)) >= 44


def test_evaluation_is_one_sorted_pass(photos):
    feed = Feed(folder_index(photos))
    batches = take(feed.evaluation(7, SIZE), 100)
    assert len(batches) == 7 and all(b["image"].shape == (7, SIZE, SIZE, 3) for b in batches)
    rows, mask = (np.concatenate([b[key] for b in batches]) for key in ("index", "mask"))
    np.testing.assert_array_equal(rows[mask == 1], range(45))
    np.testing.assert_array_equal(mask, [1.0] * 45 + [0.0] * 4)
    with pytest.raises(ValueError, match="no order"):
        feed.training(0, 0, SIZE)


def test_weights_follow_the_class(photos):
    feed = feed_of(photos, class_weights=(0.5, 2.0, 3.0))
    for batch in take(feed.training(0, 0, SIZE), 3):
        np.testing.assert_array_equal(batch["weight"], np.array([0.5, 2, 3])[batch["label"]])


@pytest.mark.parametrize("batch", [1, 3, 13, 32])
def test_batches_of_any_size(photos, batch):
    feed = feed_of(photos, batch=batch)
    batches = take(feed.training(0, 0, SIZE), feed.steps_per_epoch)
    rows = np.concatenate([b["index"][b["mask"] == 1] for b in batches])
    assert sorted(rows) == list(range(45))


@pytest.mark.parametrize(("epoch", "step"), [(-1, 0), (0, -1), (0, 6)])
def test_starts_out_of_range_are_refused(photos, epoch, step):
    with pytest.raises(ValueError, match=r"\[0, 5\]"):
        feed_of(photos).training(epoch, step, SIZE)


def test_a_pass_over_all_examples_is_built_once_for_each_shape_asked_for(photos):
    feed = Feed(folder_index(photos))
    first = feed.evaluation(8, SIZE)
    assert feed.evaluation(8, SIZE) is first
    seen = [[int(row) for batch in first for row in batch["index"]] for _ in range(2)]
    assert seen[0] == seen[1]
    other = feed.evaluation(8, SIZE * 2)
    assert next(iter(other))["image"].shape == (8, SIZE * 2, SIZE * 2, 3)
    half = feed.evaluation(8, SIZE, 1, 2)
    assert next(iter(half))["image"].shape == (4, SIZE, SIZE, 3)
    again = feed.evaluation(8, SIZE)
    assert [[int(row) for batch in again for row in batch["index"]]] == seen[:1]
