"""The pipeline shared out among ranks, devices and parts."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.index import folder_index
from harness.errors import EnvironmentNotAble

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")
from harness.data.order import Order  # noqa: E402
from harness.data.pipeline import Feed  # noqa: E402
from harness.spec.models_augment import Augment  # noqa: E402
from tests.local.pipeline_helpers import (  # noqa: E402
    SIZE,
    assert_equal,
    feed_of,
    photos,
    take,
)

__all__ = ["photos"]  # a fixture, found by its name

# Draws of an example do not depend on the rest of them; all kinds take seconds to trace.
AUGMENT = Augment(flip="both", crop_area=(0.5, 1.0), brightness=0.2)


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_share_the_same_global_batches(photos, replicas):
    feed = feed_of(photos, augment=AUGMENT)
    whole = take(feed.training(0, 0, SIZE), 7)
    parts = [take(feed.training(0, 0, SIZE, r, replicas), 7) for r in range(replicas)]
    joined = [
        {key: np.concatenate([part[at][key] for part in parts]) for key in whole[0]}
        for at in range(7)
    ]
    assert_equal(joined, whole)


def test_replicas_that_do_not_fit_are_refused(photos):
    with pytest.raises(EnvironmentNotAble, match="batch_size"):
        feed_of(photos, batch=6).training(0, 0, SIZE, 0, 4)
    with pytest.raises(ValueError, match=r"\[0, 1\], was 2"):
        feed_of(photos).training(0, 0, SIZE, 2, 2)
    index = folder_index(photos)
    with pytest.raises(ValueError, match="44"):
        Feed(index, order=Order(44, 8, 8, 1, 4, 2))


def shared_out(root, global_batch: int, parts: int, ranks: int, devices: int, steps: int):
    """By step: the rows of all ranks, devices and parts, in the order in which they are drawn."""
    feed = feed_of(root, batch=global_batch, augment=AUGMENT)
    each = global_batch // (ranks * devices * parts)
    joined = []
    of_ranks = [
        take(feed.training(0, 1, SIZE, rank, ranks, parts=parts, devices=devices), steps * parts)
        for rank in range(ranks)
    ]
    for batches in of_ranks:
        assert {len(batch["mask"]) for batch in batches} == {devices * each}
    for step in range(steps):
        pieces = [
            {
                key: value[device * each : (device + 1) * each]
                for key, value in batches[step * parts + part].items()
            }
            for batches in of_ranks
            for device in range(devices)
            for part in range(parts)
        ]
        joined.append({key: np.concatenate([one[key] for one in pieces]) for key in pieces[0]})
    return joined


@pytest.mark.parametrize(
    ("parts", "ranks", "devices"),
    [(1, 1, 2), (4, 1, 1), (2, 1, 2), (1, 2, 2), (2, 2, 1), (2, 2, 2), (4, 2, 2), (3, 2, 1)],
)
def test_parts_of_all_devices_of_all_ranks_are_the_global_batch(photos, parts, ranks, devices):
    """A device computes consecutive rows of the global batch, part by part; to the epoch's end."""
    batch = 24 if parts == 3 else 16
    feed = feed_of(photos, batch=batch, augment=AUGMENT)
    steps = feed.steps_per_epoch
    whole = take(feed.training(0, 1, SIZE), steps)
    assert_equal(shared_out(photos, batch, parts, ranks, devices, steps), whole)
    # The last step of the first epoch is ragged, and every example comes once.
    first = take(feed.training(0, 0, SIZE), steps)
    rows = np.concatenate([each["index"][each["mask"] == 1] for each in first])
    assert sorted(rows) == list(range(45))
    assert any((each["mask"] == 0).any() for each in first)


@pytest.mark.parametrize(("parts", "devices"), [(3, 1), (1, 3), (4, 4), (2, 8)])
def test_rows_that_cannot_be_shared_are_refused(photos, parts, devices):
    feed = feed_of(photos, batch=8)
    with pytest.raises(ValueError, match=f"8 rows are not shared by {devices} devices in {parts}"):
        feed.training(0, 0, SIZE, parts=parts, devices=devices)


@pytest.mark.parametrize(("batch", "replicas"), [(8, 1), (8, 2), (8, 4), (12, 3), (45, 1), (64, 2)])
def test_replicas_evaluate_each_example_once_in_the_rows_of_one(photos, batch, replicas):
    feed = Feed(folder_index(photos))
    whole = take(feed.evaluation(batch, SIZE), 100)
    parts = [take(feed.evaluation(batch, SIZE, r, replicas), 100) for r in range(replicas)]
    # All have as many batches, also those that are left with padding: they bring sums together.
    assert {len(part) for part in parts} == {len(whole)} == {-(-45 // batch)}
    joined = [
        {key: np.concatenate([part[at][key] for part in parts]) for key in whole[0]}
        for at in range(len(whole))
    ]
    assert_equal(joined, whole)
    mask = np.concatenate([each["mask"] for each in joined])
    rows = np.concatenate([each["index"] for each in joined])
    np.testing.assert_array_equal(rows[mask == 1], range(45))


def test_an_evaluation_has_no_such_replica(photos):
    with pytest.raises(ValueError, match=r"replica must be in \[0, 1\], was 2"):
        Feed(folder_index(photos)).evaluation(8, SIZE, 2, 2)
