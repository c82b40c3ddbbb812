"""RandAugment: a few operations out of a fixed list, all of one strength.

Cubuk, Zoph, Shlens and Le, "RandAugment: Practical automated data augmentation with a reduced
search space", 2020.  The list of 14 operations is the paper's, and their ranges are those of
AutoAugment (Cubuk et al., 2019).  Every operation grows with the magnitude, as it does in
torchvision, and has the effect of its namesake in Pillow; all are TensorFlow ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import tensorflow as tf

from harness.data.augment_warp import GREY, Map, rotation, shearing, warp

MAGNITUDES = 10.0
"""The largest magnitude."""
_ROTATE = math.radians(30.0)
_SHEAR = 0.3
_TRANSLATE = 150.0 / 331.0
_ENHANCE = 0.9
_POSTERIZE_BITS = 4.0
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode L
_SMOOTH = ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 1.0, 1.0))

Operation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(float32 [S, S, 3] of whole numbers in 0..255, signed strength in [-1, 1]) to the same."""


def rand_augment(image: tf.Tensor, draws: tf.Tensor, magnitude: float) -> tf.Tensor:
    """The picture after as many operations as there are pairs of draws, one after the other.

    Each is drawn anew out of the whole list, and one that has a direction (left or right, darker
    or brighter) takes either with probability one half.

    Args:
        image: float32 [S, S, 3] in 0..255, of a known size.
        draws: float32 [N, 2], uniform in [0, 1): which operation, and its direction.
        magnitude: 0 to :data:`MAGNITUDES`.

    Returns:
        float32 [S, S, 3] of whole numbers in 0..255, if there is an operation.
    """
    image = _whole(image)
    for number in range(draws.shape[0]):
        image = _once(image, draws[number], tf.constant(magnitude / MAGNITUDES))
    return image


# Traced once for each size of the picture, however many are applied.
@tf.function(autograph=False)
def _once(image: tf.Tensor, draw: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    signed = tf.where(draw[1] < 0.5, -strength, strength)
    known = list(OPERATIONS.values())
    # A draw is below 1, but the product may round up to the length of the list.
    which = tf.minimum(tf.cast(draw[0] * len(known), tf.int32), len(known) - 1)
    return tf.switch_case(which, [partial(_whole_after, one, image, signed) for one in known])


def _whole_after(operation: Operation, image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(_whole(operation(image, signed)), image.shape)


def _whole(image: tf.Tensor) -> tf.Tensor:
    """Whole numbers in 0..255: some operations count levels or cut their bits off."""
    return tf.clip_by_value(tf.round(image), 0.0, 255.0)


def _auto_contrast(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to the full range."""
    low = tf.reduce_min(image, axis=(0, 1))
    room = tf.reduce_max(image, axis=(0, 1)) - low
    return tf.where(room > 0.0, (image - low) * (255.0 / tf.maximum(room, 1.0)), image)


def _equalize(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Spreads the levels of each channel so that all are about as frequent."""
    levels = tf.transpose(tf.reshape(tf.cast(image, tf.int32), [-1, 3]))
    counts = tf.math.bincount(levels, minlength=256, maxlength=256, axis=-1)
    highest = tf.reduce_max(levels, axis=1, keepdims=True)
    total = tf.shape(levels)[1]
    # Pillow's integers: the level of the brightest pixels is left out of the step.
    step = (total - tf.gather(counts, highest, batch_dims=1)) // 255
    table = (step // 2 + tf.cumsum(counts, axis=1, exclusive=True)) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256)[None])
    spread = tf.transpose(tf.gather(table, levels, batch_dims=1))
    return tf.cast(tf.reshape(spread, tf.shape(image)), tf.float32)


def _rotate(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    return _warped(image, rotation(_ROTATE * signed))


def _shear_x(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    return _warped(image, shearing(_SHEAR * signed, tf.zeros_like(signed)))


def _shear_y(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    return _warped(image, shearing(tf.zeros_like(signed), _SHEAR * signed))


def _translate_x(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    return _warped(image, None, (_TRANSLATE * image.shape[1] * signed, tf.zeros_like(signed)))


def _translate_y(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    return _warped(image, None, (tf.zeros_like(signed), _TRANSLATE * image.shape[0] * signed))


def _warped(
    image: tf.Tensor, where: Map | None, shift: tuple[tf.Tensor, tf.Tensor] | None = None
) -> tf.Tensor:
    return warp(image, where, shift, "CONSTANT", GREY)


def _solarize(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    """Inverts the levels from a threshold on, which falls from 255 to 0."""
    return tf.where(image < 255.0 * (1.0 - tf.abs(signed)), image, 255.0 - image)


def _posterize(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    """Keeps the upper 8 to 4 bits of each level."""
    step = tf.pow(2.0, tf.round(_POSTERIZE_BITS * tf.abs(signed)))
    return tf.floor(image / step) * step


def _color(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    return _blend(_grey(image), image, signed)


def _contrast(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    return _blend(tf.round(tf.reduce_mean(_grey(image))), image, signed)


def _brightness(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    return _blend(0.0, image, signed)


def _sharpness(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    """Against the picture smoothed by a 3 x 3 filter, which leaves the outermost pixels."""
    height, width = image.shape[:2]
    if min(height, width) < 3:
        return image
    kernel = tf.constant(_SMOOTH)[..., None, None] / 13.0
    inner = tf.nn.depthwise_conv2d(
        image[None], tf.repeat(kernel, 3, axis=2), [1, 1, 1, 1], "VALID"
    )[0]
    inside = tf.pad(tf.ones([height - 2, width - 2, 1], tf.bool), [[1, 1], [1, 1], [0, 0]])
    smooth = tf.where(inside, tf.pad(inner, [[1, 1], [1, 1], [0, 0]]), image)
    return _blend(_whole(smooth), image, signed)


def _blend(base: tf.Tensor | float, image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    """From ``base`` over the picture and beyond: factors 0.1 to 1.9, 1 being the picture."""
    return base + (image - base) * (1.0 + _ENHANCE * signed)


def _grey(image: tf.Tensor) -> tf.Tensor:
    """Luma, float32 [S, S, 1] of whole numbers."""
    return tf.round(tf.reduce_sum(image * tf.constant(_LUMA), axis=-1, keepdims=True))


OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, _: image,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "rotate": _rotate,
    "solarize": _solarize,
    "color": _color,
    "posterize": _posterize,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
"""By name.  Never reorder: a draw means a place in this list; append."""
