"""Feeds of a few photographs."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.index import folder_index
from harness.data.lanes import lane_count
from harness.spec.models_augment import Augment, RandAugment

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")
from harness.data.augment import Augmenter  # noqa: E402
from harness.data.order import Order  # noqa: E402
from harness.data.pipeline import Feed  # noqa: E402

SIZE = 16


AUGMENT = Augment(
    flip="both",
    rotate_deg=20.0,
    crop_area=(0.5, 1.0),
    zoom=0.2,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.1,
    randaugment=RandAugment(ops=1),
    cutout=0.2,
)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """45 pictures of three classes, of several kinds and shapes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for at in range(45):
        kind = ("jpg", "png", "bmp")[at % 3]
        small = rng.integers(0, 256, (4, 5, 3), np.uint8)
        picture = Image.fromarray(small).resize((30 + at, 40), Image.Resampling.BICUBIC)
        path = root / "abc"[at % 3 if at < 30 else 0] / f"{at:02}.{kind}"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
    return root


def feed_of(root, *, batch=8, augment=None, seed=5, **more) -> Feed:
    index = folder_index(root)
    order = Order(len(index), batch, lane_count(batch), seed, 4, 2)
    augmenter = Augmenter(augment, seed) if augment else None
    return Feed(index, order=order, augment=augmenter, **more)


def take(dataset, count: int) -> list[dict[str, np.ndarray]]:
    return list(dataset.take(count).as_numpy_iterator())


def assert_equal(one, other) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b) == {"image", "label", "mask", "weight", "index"}
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
