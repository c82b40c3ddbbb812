"""What the preparation of the quickstart makes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

JOBS = Path(__file__).resolve().parents[2] / "jobs"
sys.path.insert(0, str(JOBS))

SIZES = (64, 96, 131)


def test_crops_do_not_overlap_and_test_is_on_the_right() -> None:
    from quickstart_parts.photographs import PHOTOGRAPHS, crops

    brick = next(photograph for photograph in PHOTOGRAPHS if photograph.name == "brick")
    # Each pixel holds its own number, so that a crop tells where it is from.
    picture = np.arange(500 * 520).reshape(500, 520, 1)
    seen: set[int] = set()
    columns: dict[bool, set[int]] = {False: set(), True: set()}
    for _, is_test, crop in crops(picture, brick):
        pixels = set(crop.ravel().tolist())
        assert len(pixels) == brick.side**2
        assert not pixels & seen
        seen |= pixels
        columns[is_test] |= {pixel % 520 for pixel in pixels}
    assert max(columns[False]) < min(columns[True])


def test_black_crops_are_left_out_only_where_the_border_is_black() -> None:
    from quickstart_parts.photographs import Photograph, crops

    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, 20:] = 200
    plain = Photograph("a", "a", "", 20)
    assert len(list(crops(picture, plain))) == 2
    (left,) = crops(picture, Photograph("a", "a", "", 20, black_border=True))
    assert left[2].min() == 200


def test_the_data_set_is_whole(quickstart: Path) -> None:
    classes = {folder.name for folder in (quickstart / "train").iterdir()}
    assert len(classes) == 13
    assert {folder.name for folder in (quickstart / "test").iterdir()} == classes
    assert {file.stem for file in (quickstart / "heldback").iterdir()} == classes
    for part, least in (("train", 35), ("test", 19)):
        for name in classes:
            assert len(list((quickstart / part / name).iterdir())) >= least


@pytest.mark.parametrize("size", SIZES)
def test_the_module_takes_any_size_and_is_frozen_or_not(quickstart: Path, size: int) -> None:
    import tensorflow as tf
    import tensorflow_hub as hub

    folder = str(quickstart / "backbone" / "mobilenet_v2")
    pictures = tf.random.stateless_uniform((2, size, size, 3), seed=(1, size))
    frozen = hub.KerasLayer(folder, trainable=False)
    assert frozen(pictures).shape == (2, 1280)
    assert not frozen.trainable_variables
    open_ = hub.KerasLayer(folder, trainable=True)
    assert len(open_.trainable_variables) == 3 * 52
    assert len(open_.variables) == 5 * 52
    # Inference is the same however it was loaded, training mode uses the batch's statistics.
    np.testing.assert_array_equal(open_(pictures, training=False), frozen(pictures))
    assert np.abs(open_(pictures, training=True) - frozen(pictures)).max() > 0.1


def test_the_random_one_differs_in_weights_only(quickstart: Path) -> None:
    import tensorflow as tf

    pretrained, random = (
        tf.saved_model.load(str(quickstart / "backbone" / name))
        for name in ("mobilenet_v2", "mobilenet_v2_random")
    )
    shapes = [[tuple(v.shape) for v in one.variables] for one in (pretrained, random)]
    assert shapes[0] == shapes[1]
    pictures = tf.random.stateless_uniform((4, 96, 96, 3), seed=(1, 2))
    features = random(pictures, training=False).numpy()
    assert features.std() > 0.1, "its signal gets through"
