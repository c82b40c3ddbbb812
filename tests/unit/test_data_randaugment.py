"""RandAugment: each operation against Pillow's of the same name, and how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from PIL import ImageEnhance, ImageOps  # noqa: E402
from test_data_augment import IMAGE, SIZE, augmented  # noqa: E402
from test_data_augment_warp import looked_up  # noqa: E402

from harness.data.augment import example_key  # noqa: E402
from harness.data.decode import fit  # noqa: E402
from harness.data.randaugment import OPERATIONS, rand_augment  # noqa: E402
from harness.data.seeds import fold, key_of, seed_pair  # noqa: E402
from harness.spec.models_augment import RandAugment  # noqa: E402

RNG = np.random.default_rng(8)
PICTURES = {
    "noise": RNG.integers(0, 256, (32, 32, 3), np.uint8),
    "flat": np.full((32, 32, 3), (10, 128, 240), np.uint8),
    "narrow": RNG.integers(90, 121, (32, 32, 3), np.uint8),
    "skewed": (255 * RNG.random((32, 32, 3)) ** 4).astype(np.uint8),
    "two levels": np.where(RNG.random((32, 32, 3)) < 0.1, 7, 200).astype(np.uint8),
}


def chosen(name: str, sign: int = 1) -> list[float]:
    """The two draws that mean this operation in this direction."""
    return [(list(OPERATIONS).index(name) + 0.5) / len(OPERATIONS), 0.25 if sign < 0 else 0.75]


def done(picture, *names: str, magnitude: float = 9.0, sign: int = 1) -> np.ndarray:
    draws = tf.constant([chosen(name, sign) for name in names], tf.float32)
    got = rand_augment(tf.constant(picture, tf.float32), draws, magnitude).numpy()
    assert got.shape == picture.shape
    assert got.min() >= 0 and got.max() <= 255
    np.testing.assert_array_equal(got, np.round(got))
    return got


def enhanced(kind):
    return lambda image, part, sign: kind(image).enhance(1 + 0.9 * sign * part)


PILLOW = {
    "identity": lambda image, part, sign: image,
    "auto_contrast": lambda image, part, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, part, sign: ImageOps.equalize(image),
    "solarize": lambda image, part, sign: ImageOps.solarize(image, 255 * (1 - part)),
    "posterize": lambda image, part, sign: ImageOps.posterize(image, 8 - round(4 * part)),
    "color": enhanced(ImageEnhance.Color),
    "contrast": enhanced(ImageEnhance.Contrast),
    "brightness": enhanced(ImageEnhance.Brightness),
    "sharpness": enhanced(ImageEnhance.Sharpness),
}
SHEARED = {"shear_x": (0.3, 0.0), "shear_y": (0.0, 0.3)}
SHIFTED = {"translate_x": (1, 0), "translate_y": (0, 1)}


def test_the_list_is_the_papers():
    assert len(OPERATIONS) == 14
    assert {*PILLOW, *SHEARED, *SHIFTED, "rotate"} == set(OPERATIONS)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", PILLOW)
def test_colours_are_pillows(name, picture):
    pixels = PICTURES[picture]
    for magnitude, sign in ((3.0, 1), (9.0, -1), (10.0, 1)):
        wanted = PILLOW[name](Image.fromarray(pixels), magnitude / 10, sign)
        got = done(pixels, name, magnitude=magnitude, sign=sign)
        # Pillow cuts the fraction off where we round it.
        assert np.abs(got - np.asarray(wanted, float)).max() <= 1, (magnitude, sign)


@pytest.mark.parametrize("sign", [1, -1])
def test_shapes_are_one_bilinear_look_up_with_grey_around(sign):
    pixels = PICTURES["noise"].astype(float)
    for name, (x, y) in SHEARED.items():
        back = np.linalg.inv([[1, sign * 0.9 * x], [sign * 0.9 * y, 1]])
        wanted = looked_up(pixels, back, fill=128.0)
        np.testing.assert_allclose(done(pixels, name, sign=sign), wanted, atol=0.6)
    for name, (x, y) in SHIFTED.items():
        shift = np.array([x, y]) * sign * 0.9 * 150 / 331 * 32
        wanted = looked_up(pixels, np.eye(2), shift, fill=128.0)
        np.testing.assert_allclose(done(pixels, name, sign=sign), wanted, atol=0.6)
    angle = np.radians(27) * sign
    back = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    wanted = looked_up(pixels, back, fill=128.0)
    np.testing.assert_allclose(done(pixels, "rotate", sign=sign), wanted, atol=0.6)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"auto_contrast", "equalize"}))
def test_magnitude_0_leaves_the_picture_and_larger_ones_change_it_more(name):
    pixels = PICTURES["skewed"]
    np.testing.assert_array_equal(done(pixels, name, magnitude=0.0), pixels)
    changes = [np.abs(done(pixels, name, magnitude=m) - pixels).mean() for m in (3.0, 6.0, 10.0)]
    assert changes == sorted(changes)
    assert (changes[-1] > 0) == (name != "identity")


def test_operations_follow_one_another():
    pixels = PICTURES["skewed"]
    one = done(done(pixels, "solarize"), "shear_x")
    np.testing.assert_array_equal(done(pixels, "solarize", "shear_x"), one)
    assert (done(pixels, "shear_x", "solarize") != one).any()


@pytest.mark.parametrize("draw", [0.0, np.nextafter(np.float32(1), np.float32(0))])
def test_the_ends_of_the_draws_mean_the_ends_of_the_list(draw):
    pixels = tf.constant(PICTURES["noise"], tf.float32)
    got = rand_augment(pixels, tf.constant([[draw, 0.9]], tf.float32), 5.0)
    name = list(OPERATIONS)[0 if draw < 0.5 else -1]
    np.testing.assert_array_equal(got, done(PICTURES["noise"], name, magnitude=5.0))


def test_every_operation_is_drawn_in_a_graph_as_outside():
    options = {"randaugment": RandAugment(ops=1, magnitude=8.0)}
    pixels = RNG.integers(0, 256, (24, 24, 3), np.uint8)
    image = tf.constant(pixels)
    known = {
        done(pixels, name, magnitude=8.0, sign=sign).astype(np.uint8).tobytes(): name
        for name in OPERATIONS
        for sign in (1, -1)
    }
    seen = {known[augmented(options, name=str(at), image=image).tobytes()] for at in range(80)}
    assert len(seen) > 10


def test_the_draws_have_a_row_of_their_own():
    options = {"randaugment": RandAugment(ops=3, magnitude=7.0)}
    key = fold(fold(key_of(1), tf.constant(5, tf.int64)), 2)
    for name in "abcd":
        seed = seed_pair(key, example_key(tf.constant(name)))
        draws = tf.random.stateless_uniform([3, 2], seed, alg="philox")
        wanted = rand_augment(fit(IMAGE, SIZE), draws, 7.0).numpy()
        np.testing.assert_array_equal(augmented(options, epoch=5, name=name), wanted)


@settings(max_examples=15)
@given(
    size=st.sampled_from([1, 2, 3, 32]),  # each is traced anew
    draws=st.lists(st.tuples(*[st.floats(0, 0.9999)] * 2), min_size=1, max_size=8),
    magnitude=st.floats(0, 10),
    level=st.integers(0, 255),
)
def test_pictures_of_any_size_stay_pictures(size, draws, magnitude, level):
    image = tf.fill([size, size, 3], float(level))
    got = rand_augment(image, tf.constant(draws, tf.float32), magnitude).numpy()
    assert got.shape == (size, size, 3)
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got, np.clip(np.round(got), 0, 255))
