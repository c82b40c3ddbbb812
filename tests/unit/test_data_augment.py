"""Augmentation: pure in (seed, epoch, example), and what each option does."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from harness.errors import UsageError
from harness.plugins import registry
from harness.spec.models_augment import AUGMENT_MEDIUM, Augment, RandAugment

tf = pytest.importorskip("tensorflow")

from harness.data.augment import Augmenter, example_key, random_crop  # noqa: E402
from harness.data.augment_warp import rotate  # noqa: E402
from harness.data.decode import fit, to_uint8  # noqa: E402

SIZE = 24
IMAGE = tf.constant(np.random.default_rng(1).integers(30, 226, (40, 30, 3), np.uint8))
NOTHING = {
    "flip": "none",
    "rotate_deg": 0.0,
    "crop_area": None,
    "zoom": 0.0,
    "shear_deg": 0.0,
    "translate": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "randaugment": None,
    "cutout": 0.0,
    "plugins": (),
}
ALL = {
    "flip": "both",
    "rotate_deg": 20.0,
    "crop_area": (0.5, 1.0),
    "zoom": 0.3,
    "shear_deg": 15.0,
    "translate": 0.2,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "hue": 0.1,
    "randaugment": RandAugment(ops=2, magnitude=9.0),
    "cutout": 0.4,
}
# Pixels of an augmented picture; the draws of a resumed run must stay, whatever is added.
GOLDEN = {
    "flip": [165, 157, 79, 93, 151, 114, 181, 69, 68, 124, 134, 104, 199, 75, 94, 178, 87, 177],
    "rotate_deg": [
        124, 184, 108, 128, 161, 136, 103, 139, 133, 132, 147, 136, 104, 127, 119, 156, 93, 160,
    ],
    "crop_area": [
        130, 174, 120, 119, 133, 131, 168, 142, 132, 114, 124, 115, 96, 158, 156, 142, 175, 185,
    ],
    "brightness": [
        121, 109, 136, 116, 110, 103, 106, 54, 127, 78, 114, 152, 107, 156, 51, 117, 134, 104,
    ],
    "contrast": [
        149, 137, 163, 144, 138, 131, 135, 84, 154, 107, 142, 178, 135, 182, 81, 145, 161, 132,
    ],
    "saturation": [
        150, 139, 165, 145, 139, 132, 136, 85, 155, 109, 144, 180, 137, 185, 84, 146, 163, 134,
    ],
    "hue": [162, 138, 165, 145, 144, 131, 155, 82, 142, 106, 109, 180, 87, 185, 80, 132, 163, 133],
}  # fmt: skip


def augmented(options, *, seed=1, epoch=0, name="a/1.jpg", image=IMAGE):
    augment = Augmenter(SimpleNamespace(**NOTHING | options), seed)
    epoch = tf.constant(epoch, tf.int64)
    return augment(image, SIZE, epoch, example_key(tf.constant(name))).numpy()


PLAIN = to_uint8(fit(IMAGE, SIZE)).numpy()


def test_example_keys_are_the_same_in_every_tensorflow():
    keys = example_key(tf.constant(["cat/1.jpg", "hund/ä.png"])).numpy().tolist()
    assert keys == [4408260386524130074, 1622791980963872399]


def test_no_options_change_nothing():
    assert not Augmenter(SimpleNamespace(**NOTHING), 1).changes
    np.testing.assert_array_equal(augmented({}), PLAIN)


@pytest.mark.parametrize("option", ALL)
def test_each_option_changes_images_alone(option):
    options = {option: ALL[option]}
    assert Augmenter(SimpleNamespace(**NOTHING | options), 1).changes
    got = [augmented(options, name=str(at)) for at in range(8)]
    assert all(image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8 for image in got)
    assert len({image.tobytes() for image in got}) > 1


def test_draws_depend_on_seed_epoch_and_name_and_on_nothing_else():
    first = augmented(ALL)
    np.testing.assert_array_equal(first, augmented(ALL))
    for other in ({"seed": 2}, {"epoch": 1}, {"epoch": 2**40}, {"name": "a/2.jpg"}):
        assert (augmented(ALL, **other) != first).mean() > 0.5, other


@pytest.mark.parametrize("option", GOLDEN)
def test_pictures_stay_as_they_were(option):
    got = augmented({option: ALL[option]}, name="a/7.jpg", epoch=2)[5:22:8, 7:20:12]
    # Other versions of TensorFlow may round the last bit otherwise.
    assert np.abs(got.reshape(-1).astype(int) - GOLDEN[option]).max() <= 1


def test_the_options_are_those_of_the_spec():
    others = {name for name, medium in AUGMENT_MEDIUM.items() if medium not in ("image", "all")}
    others |= {"mixup", "cutmix"}  # of whole batches: tests/local/test_data_mixing.py
    assert set(NOTHING) == set(Augment.model_fields) - others
    assert set(ALL) == set(NOTHING) - {"plugins"}
    assert Augment().model_dump(exclude=others) == NOTHING


def test_a_further_option_leaves_the_draws_of_the_others_alone():
    # Brightness comes after the flip: where only it differs, the geometry is the same.
    for at in range(6):
        flipped = augmented({"flip": "both"}, name=str(at)).astype(int)
        brighter = augmented({"flip": "both", "brightness": 0.05}, name=str(at)).astype(int)
        assert np.ptp(brighter - flipped) <= 1


@pytest.mark.parametrize(
    ("flip", "allowed"),
    [
        ("horizontal", {(1, 1), (1, -1)}),
        ("vertical", {(1, 1), (-1, 1)}),
        ("both", {(1, 1), (1, -1), (-1, 1), (-1, -1)}),
    ],
)
def test_flips_are_mirrors_and_all_occur(flip, allowed):
    mirrors = {PLAIN[::v, ::h].tobytes(): (v, h) for v, h in ((1, 1), (1, -1), (-1, 1), (-1, -1))}
    seen = {mirrors[augmented({"flip": flip}, name=str(at)).tobytes()] for at in range(24)}
    assert seen == allowed


def test_brightness_adds_a_uniform_value_of_the_range():
    shifts = []
    for at in range(80):
        change = augmented({"brightness": 0.1}, name=str(at)).astype(int) - PLAIN
        assert np.ptp(change) <= 1
        shifts.append(change.mean())
    assert -25.6 <= min(shifts) < -18 and 18 < max(shifts) <= 25.6
    assert abs(np.mean(shifts)) < 5 * 25.5 / 3**0.5 / 80**0.5


def test_contrast_keeps_the_mean_and_saturation_keeps_grey():
    for at in range(8):
        change = augmented({"contrast": 0.2}, name=str(at)).mean((0, 1)) - PLAIN.mean((0, 1))
        assert np.abs(change).max() < 1.5
    grey = tf.repeat(IMAGE[..., :1], 3, axis=2)
    for option in ("saturation", "hue"):
        got = augmented({option: 0.3}, image=grey)
        np.testing.assert_array_equal(got, to_uint8(fit(grey, SIZE)))


def test_a_cutout_is_a_square_that_may_be_cut_at_the_edge():
    areas = []
    for at in range(60):
        got = augmented({"cutout": 0.5}, name=str(at))
        rows, columns = np.nonzero((got == 128).all(-1) & (PLAIN != 128).any(-1))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width, "a full rectangle"
        assert max(height, width) <= 12
        changed = (got != PLAIN).any(-1)
        assert not changed[(got != 128).any(-1)].any(), "all else stays"
        areas.append(height * width)
    assert max(areas) == 144 and min(areas) < 100


def test_rotation_by_a_right_angle_is_exact_and_by_zero_is_nothing():
    square = tf.cast(IMAGE[:30, :30], tf.float32)
    np.testing.assert_allclose(rotate(square, tf.constant(0.0)), square, atol=1e-3)
    quarter = rotate(square, tf.constant(np.pi / 2, tf.float32)).numpy()
    np.testing.assert_allclose(quarter, np.rot90(square, 1), atol=0.1)


def test_rotation_fills_by_reflection():
    white = tf.fill([30, 30, 3], 255.0)
    np.testing.assert_allclose(rotate(white, tf.constant(0.5)), white, atol=1e-3)
    assert rotate(white, tf.constant(0.5), "CONSTANT").numpy().min() == 0


def test_crops_lie_inside_and_have_the_wanted_area_and_aspect():
    # Pixels that know where they are.
    rows, columns = np.indices((200, 300))
    image = tf.constant(np.stack([rows, columns, rows * 0], -1).astype(np.float32))
    areas, aspects, tops = [], [], []
    for at in range(120):
        draws = tf.random.stateless_uniform([16], [1, at])
        crop = random_crop(image, (0.3, 0.5), draws).numpy()
        height, width = crop.shape[:2]
        np.testing.assert_array_equal(crop[-1, -1] - crop[0, 0], [height - 1, width - 1, 0])
        areas.append(height * width / 60_000)
        aspects.append(width / 300 / (height / 200))
        tops.append(crop[0, 0, 0] / (200 - height))
    assert 0.295 < min(areas) < 0.32 and 0.48 < max(areas) < 0.505
    assert 0.73 < min(aspects) < 0.8 and 1.25 < max(aspects) < 1.36
    assert min(tops) < 0.05 and max(tops) > 0.95


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (3, 2, 3)])
def test_tiny_images_can_be_cropped(shape):
    for at in range(20):
        draws = tf.random.stateless_uniform([16], [2, at])
        crop = random_crop(tf.zeros(shape), (0.01, 1.0), draws)
        assert min(crop.shape) >= 1


@pytest.fixture
def plugin():
    @registry.register("augmentation", "test_noise")
    def noise(image, seed, strength=1.0):
        assert seed.shape == [2]
        # An `if` on a tensor: plug-ins may write ordinary Python.
        if tf.reduce_mean(image) > 1000.0:
            image = image * 0.0
        return image + strength * tf.random.stateless_normal(image.shape, seed)

    yield "test_noise"
    del registry._known["augmentation"]["test_noise"]


def test_plugins_get_their_options_and_their_own_draws(plugin):
    def with_options(*options):
        return {"plugins": [SimpleNamespace(plugin=plugin, options=o) for o in options]}

    loud = augmented(with_options({"strength": 10.0})).astype(int) - PLAIN
    quiet = augmented(with_options({"strength": 0.0})).astype(int) - PLAIN
    assert 8 < loud.std() < 12 and not quiet.any()
    # Twice the same plug-in: independent noise adds in squares, equal noise would double.
    twice = augmented(with_options({"strength": 10.0}, {"strength": 10.0})).astype(int) - PLAIN
    assert 12 < twice.std() < 16
    other = augmented(with_options({"strength": 10.0}), epoch=1).astype(int) - PLAIN
    assert (other != loud).mean() > 0.5


def test_an_unknown_plugin_is_refused():
    ref = SimpleNamespace(plugin="no_such", options={})
    with pytest.raises(UsageError, match="no_such"):
        Augmenter(SimpleNamespace(**NOTHING | {"plugins": [ref]}), 1)
