"""Random changes of training images, as a pure function of (seed, epoch, example).

The draws of an example depend on its name, not on where it is read from, nor on rank, thread or
batch.  A plug-in of kind ``augmentation`` is called as
``change(image, seed, **options) -> image`` with float32 [S, S, 3] in 0..255 and an int64 [2] seed
for TensorFlow's stateless ops; it must be graph code and return the same shape.

The order is: crop, resize to the square, flip, warp (zoom, shear, rotate, shift as one),
brightness, contrast, saturation, hue, RandAugment, cutout, plug-ins, round.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import tensorflow as tf

from harness.data.augment_plugins import AugmentPlugins
from harness.data.augment_warp import Map, cutout, rotation, shearing, warp, zooming
from harness.data.decode import fit, to_uint8
from harness.data.randaugment import rand_augment
from harness.data.seeds import Key, fold, key_of, seed_pair

if TYPE_CHECKING:
    from harness.spec.models_augment import Augment

# One row of the draws for each use.  Never reorder: a resumed run must draw the same; append.
_FLIP_H, _FLIP_V, _ROTATE, _AREA, _ASPECT, _TOP, _LEFT = range(7)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(7, 11)
_ZOOM, _SHEAR_X, _SHEAR_Y, _SHIFT_X, _SHIFT_Y = range(11, 16)
# The row is full: what comes later has a row of its own, as these have, by the number of its key.
_DRAWS = 16
_CUTOUT, _RANDAUGMENT = 1, 2
_KEY_RANGE = (1 << 63) - 1
_ASPECTS = (3 / 4, 4 / 3)


def example_key(name: tf.Tensor) -> tf.Tensor:
    """int64 in [0, 2**63 - 1): a stable hash (FarmHash Fingerprint64) of the relative name."""
    return tf.strings.to_hash_bucket_fast(name, _KEY_RANGE)


class Augmenter:
    """Augments images by ``options``.

    Args:
        options: ``data.augment`` of the spec, where units and ranges are documented.
        seed: the training seed.

    Raises:
        UsageError: a plug-in that is not registered.
    """

    def __init__(self, options: Augment, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._plugins = AugmentPlugins(options.plugins)

    @property
    def changes(self) -> bool:
        """False when the options leave every image as it is."""
        o = self._options
        shapes = (o.flip != "none", o.crop_area, o.rotate_deg, o.zoom, o.shear_deg, o.translate)
        colours = (o.brightness, o.contrast, o.saturation, o.hue)
        return any(map(bool, (*shapes, *colours, o.randaugment, o.cutout, self._plugins)))

    def hidden_randomness(self, size: int | None) -> list[str]:
        """A sentence for every plug-in that draws random numbers which no resume repeats.

        Args:
            size: height and width of the pictures, pixels.
        """
        return self._plugins.hidden_randomness(tf.TensorSpec([size, size, 3]))

    def __call__(
        self, image: tf.Tensor, size: int | None, epoch: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """The augmented image.

        Args:
            image: uint8 [height, width, 3], as decoded.
            size: height and width S of the result, pixels.
            epoch: int64 scalar.
            key: int64 scalar, :func:`example_key`.

        Returns:
            uint8 [S, S, 3].
        """
        assert size is not None, "held by the spec"
        epoch_key = fold(key_of(self._seed), epoch)
        draws = _draws([_DRAWS], epoch_key, key)
        if self._options.crop_area is not None:
            image = random_crop(image, self._options.crop_area, draws)
        changed = self._colours(self._shape(fit(image, size), draws), draws)
        chosen, part = self._options.randaugment, self._options.cutout
        if chosen is not None:
            pairs = _draws([chosen.ops, 2], fold(epoch_key, _RANDAUGMENT), key)
            changed = rand_augment(changed, pairs, chosen.magnitude)
        if part:
            changed = cutout(changed, part, _draws([2], fold(epoch_key, _CUTOUT), key))
        return to_uint8(self._plugins.apply(changed, epoch_key, key))

    def _shape(self, image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        o = self._options
        for kinds, slot, axis in (
            (("horizontal", "both"), _FLIP_H, 1),
            (("vertical", "both"), _FLIP_V, 0),
        ):
            if o.flip in kinds:
                image = tf.where(draws[slot] < 0.5, tf.reverse(image, [axis]), image)
        return self._warp(image, draws)

    def _warp(self, image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Zooms, shears, rotates and shifts in this order; each pixel is looked up once."""
        o = self._options
        # From the result back to the picture, so the last change comes first.
        maps: list[Map] = []
        if o.rotate_deg:
            maps.append(rotation(_spread(draws[_ROTATE], math.radians(o.rotate_deg))))
        if o.shear_deg:
            limit = math.radians(o.shear_deg)
            angles = (_spread(draws[slot], limit) for slot in (_SHEAR_X, _SHEAR_Y))
            maps.append(shearing(*map(tf.tan, angles)))
        if o.zoom:
            maps.append(zooming(tf.exp(_spread(draws[_ZOOM], math.log1p(o.zoom)))))
        shift = None
        if o.translate:
            x, y = (_spread(draws[slot], o.translate) for slot in (_SHIFT_X, _SHIFT_Y))
            shift = (x * image.shape[1], y * image.shape[0])
        if not maps and shift is None:
            return image
        return warp(image, functools.reduce(Map.then, maps) if maps else None, shift)

    def _colours(self, image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        o = self._options
        if o.brightness:
            image = _clip(image + 255.0 * _spread(draws[_BRIGHTNESS], o.brightness))
        if o.contrast:
            factor = 1.0 + _spread(draws[_CONTRAST], o.contrast)
            image = _clip(tf.image.adjust_contrast(image, factor))
        if o.saturation or o.hue:
            image /= 255.0
            if o.saturation:
                factor = 1.0 + _spread(draws[_SATURATION], o.saturation)
                image = tf.image.adjust_saturation(image, factor)
            if o.hue:
                image = tf.image.adjust_hue(image, _spread(draws[_HUE], o.hue))
            image = _clip(image * 255.0)
        return image


def smallest_side(area: float) -> float:
    """The shortest side of :func:`random_crop` for a part of the area, as a part of the image's."""
    return math.sqrt(area * min(_ASPECTS))


def random_crop(image: tf.Tensor, area: tuple[float, float], draws: tf.Tensor) -> tf.Tensor:
    """A part of the image whose area is uniform in ``area`` (fractions of the whole).

    Its aspect (width / height, relative to that of the image) is log-uniform in 3/4..4/3, as in
    the Inception crop (Szegedy et al., 2015).  One draw, no retries: a side that would be longer
    than the image's is cut to it.

    Args:
        image: [height, width, 3].
        area: (low, high), 0 < low <= high <= 1.
        draws: float32 uniform in [0, 1).
    """
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    part = area[0] + draws[_AREA] * (area[1] - area[0])
    low, high = (math.log(aspect) for aspect in _ASPECTS)
    aspect = tf.exp(low + draws[_ASPECT] * (high - low))
    wanted = sides * tf.stack([tf.sqrt(part / aspect), tf.sqrt(part * aspect)])
    crop = tf.clip_by_value(tf.round(wanted), 1.0, sides)
    # draws < 1, but the product may round up to the whole room.
    room = sides - crop
    start = tf.minimum(tf.floor(tf.stack([draws[_TOP], draws[_LEFT]]) * (room + 1.0)), room)
    at, size = tf.cast(start, tf.int32), tf.cast(crop, tf.int32)
    return image[at[0] : at[0] + size[0], at[1] : at[1] + size[1]]


def _draws(shape: list[int], key: Key, example: tf.Tensor) -> tf.Tensor:
    """float32 in [0, 1)."""
    seed = seed_pair(key, example)
    return tf.random.stateless_uniform(shape, seed, alg=tf.random.Algorithm.PHILOX)


def _spread(draw: tf.Tensor, limit: float) -> tf.Tensor:
    """A draw in [0, 1) as one in [-limit, limit)."""
    return (2.0 * draw - 1.0) * limit


def _clip(image: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(image, 0.0, 255.0)
