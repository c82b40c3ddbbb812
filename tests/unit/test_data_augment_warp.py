"""The one resampling of rotation, shear, zoom and shift, against numpy's own bilinear look-up."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

from test_data_augment import NOTHING  # noqa: E402

from harness.data.augment import Augmenter, example_key  # noqa: E402
from harness.data.augment_warp import (  # noqa: E402
    Map,
    cutout,
    rotation,
    shearing,
    warp,
    zooming,
)
from harness.data.seeds import fold, key_of, seed_pair  # noqa: E402

# Those of ("b/2.png", epoch 7, seed 3), in units of 2**-23.
DRAWS = [
    915430, 3185774, 6483148, 5485315, 1304843, 1911012, 3805791, 16364,
    1921394, 902135, 4769783, 5798667, 6645730, 5983747, 5525704, 2152529,
]  # fmt: skip
SMOOTH = np.random.default_rng(4).uniform(0, 255, (21, 21, 3)).astype(np.float32)


def scalars(*values):
    return [tf.constant(value, tf.float32) for value in values]


def matrix(where: Map) -> np.ndarray:
    return np.array([float(each) for each in where]).reshape(2, 2)


def looked_up(image, back, shift=(0.0, 0.0), fill=None):
    """``image`` at ``back @ (p - centre - shift) + centre`` for every pixel p, bilinear.

    Outside is ``fill``, or without it the picture mirrored at its edges.
    """
    height, width = image.shape[:2]
    pad = 4 * max(height, width)
    edges = ((pad, pad), (pad, pad), (0, 0))
    wide = (
        np.pad(image.astype(float), edges, "symmetric")
        if fill is None
        else np.pad(image.astype(float), edges, constant_values=fill)
    )
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    ys, xs = np.mgrid[:height, :width]
    points = np.stack([xs, ys], -1) - centre - np.asarray(shift)
    x, y = np.moveaxis(points @ np.asarray(back).T + centre + pad, -1, 0)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = (x - left)[..., None], (y - top)[..., None]
    upper = wide[top, left] * (1 - right) + wide[top, left + 1] * right
    lower = wide[top + 1, left] * (1 - right) + wide[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


@pytest.mark.parametrize(
    ("where", "forward"),
    [
        (lambda: rotation(*scalars(0.3)), [[0.9553365, 0.2955202], [-0.2955202, 0.9553365]]),
        (lambda: shearing(*scalars(0.2, 0.0)), [[1, 0.2], [0, 1]]),
        (lambda: shearing(*scalars(0.0, -0.3)), [[1, 0], [-0.3, 1]]),
        (lambda: shearing(*scalars(0.5, 0.4)), [[1, 0.5], [0.4, 1]]),
        (lambda: zooming(*scalars(1.25)), [[1.25, 0], [0, 1.25]]),
    ],
)
def test_maps_undo_what_they_are_named_after(where, forward):
    np.testing.assert_allclose(matrix(where()) @ forward, np.eye(2), atol=1e-6)


def test_maps_are_composed_in_their_order():
    first, second = rotation(*scalars(0.7)), shearing(*scalars(0.2, 0.1))
    np.testing.assert_allclose(
        matrix(first.then(second)), matrix(second) @ matrix(first), atol=1e-6
    )


@settings(max_examples=25)
@given(
    angle=st.floats(-math.pi, math.pi),
    shear=st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6)),
    factor=st.floats(0.5, 2.0),
    shift=st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
)
@pytest.mark.parametrize("fill", [None, 128.0], ids=["mirrored", "grey"])
def test_a_warp_is_one_bilinear_look_up(fill, angle, shear, factor, shift):
    where = rotation(*scalars(angle)).then(shearing(*scalars(*shear)))
    where = where.then(zooming(*scalars(factor)))
    mode = {} if fill is None else {"fill": "CONSTANT", "fill_value": fill}
    got = warp(tf.constant(SMOOTH), where, tuple(scalars(*shift)), **mode).numpy()
    wanted = looked_up(SMOOTH, matrix(where), shift, fill)
    np.testing.assert_allclose(got, wanted, atol=0.1)


def test_a_shift_alone_moves_whole_pixels():
    got = warp(tf.constant(SMOOTH), None, tuple(scalars(3.0, -2.0)), "CONSTANT").numpy()
    wanted = np.zeros_like(SMOOTH)
    wanted[:-2, 3:] = SMOOTH[2:, :-3]
    np.testing.assert_allclose(got, wanted, atol=1e-3)


def warped(options, *, name, epoch=0, size=21, image=SMOOTH):
    augment = Augmenter(SimpleNamespace(**NOTHING | options), 3)
    pixels = tf.constant(np.round(image).astype(np.uint8))
    key = example_key(tf.constant(name))
    return augment(pixels, size, tf.constant(epoch, tf.int64), key).numpy()


def draws_of(name, epoch=0, row=None, count=16):
    """The draws of an example as the augmenter makes them: the common row, or another one."""
    key = fold(key_of(3), tf.constant(epoch, tf.int64))
    key = key if row is None else fold(key, row)
    seed = seed_pair(key, example_key(tf.constant(name)))
    return tf.random.stateless_uniform([count], seed, alg="philox").numpy()


def test_the_draws_of_an_example_stay():
    assert (draws_of("b/2.png", epoch=7) * 2**23).tolist() == DRAWS


def test_cutout_has_a_row_of_its_own():
    for name in "abcdef":
        got = warped({"cutout": 0.2}, name=name, epoch=7)
        middle = np.floor(21 * draws_of(name, 7, row=1, count=2))
        covered = np.argwhere((got != warped({}, name=name)).any(-1))
        assert np.abs(covered - middle).max() <= 2


@pytest.mark.parametrize("at", range(4))
def test_all_four_are_drawn_within_their_ranges_and_applied_at_once(at):
    options = {"rotate_deg": 30.0, "shear_deg": 20.0, "zoom": 0.5, "translate": 0.25}
    spread = 2 * draws_of(str(at)) - 1
    angle, slants = math.radians(30) * spread[2], np.tan(math.radians(20) * spread[12:14])
    cos, sin = math.cos(angle), math.sin(angle)
    forward = np.array([[cos, sin], [-sin, cos]]) @ [[1, slants[0]], [slants[1], 1]]
    forward = forward * 1.5 ** spread[11]
    image = np.round(SMOOTH)
    wanted = looked_up(image, np.linalg.inv(forward), 0.25 * 21 * spread[14:16])
    got = warped(options, name=str(at))
    np.testing.assert_allclose(got, wanted, atol=0.7)


@pytest.mark.parametrize("option", ["rotate_deg", "shear_deg", "zoom", "translate"])
def test_each_keeps_a_picture_of_one_colour(option):
    white = np.full((21, 21, 3), 255.0)
    limit = {"rotate_deg": 180.0, "shear_deg": 40.0}.get(option, 1.0)
    for at in range(8):
        np.testing.assert_array_equal(warped({option: limit}, name=str(at), image=white), 255)


def test_zoom_enlarges_as_often_as_it_shrinks():
    sizes = []
    for at in range(60):
        spot = np.zeros((65, 65, 3))
        spot[24:41, 24:41] = 255.0
        got = warped({"zoom": 0.5}, name=str(at), image=spot, size=65)
        sizes.append(got[32, :, 0].sum() / 255)
    assert 17 / 1.5 - 1 < min(sizes) < 13 and 23 < max(sizes) < 17 * 1.5 + 1
    assert 20 < sum(size > 17 for size in sizes) < 40


@settings(max_examples=20)
@given(
    size=st.integers(1, 40),
    part=st.floats(0.01, 1.0),
    draws=st.tuples(st.floats(0, 0.9999), st.floats(0, 0.9999)),
)
def test_a_cutout_covers_its_square_in_pictures_of_any_size(size, part, draws):
    got = cutout(tf.zeros([size, size, 3]), part, tf.constant(draws, tf.float32)).numpy()
    side = max(1, round(part * size))
    wanted = np.zeros((size, size, 3))
    top, left = (int(np.float32(draw) * np.float32(size)) - side // 2 for draw in draws)
    wanted[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 128
    np.testing.assert_array_equal(got, wanted)
    assert (got == 128).any()
