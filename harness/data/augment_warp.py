"""Changes of shape: rotation, shear, zoom and shift as one resampling, and cutout.  Graph code.

However many of the four are asked for, each pixel of the result is looked up once in the picture,
so nothing is blurred twice.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

GREY = 128.0
"""What cutout and RandAugment put where no picture is, as the code of AutoAugment does."""


class Map(NamedTuple):
    """Where a pixel of the result is looked up, from the centre: x' = a x + b y, y' = c x + d y.

    Scalars; x goes to the right, y down.
    """

    a: tf.Tensor
    b: tf.Tensor
    c: tf.Tensor
    d: tf.Tensor

    def then(self, other: Map) -> Map:
        """The map that applies ``other`` to what this one gives."""
        return Map(
            other.a * self.a + other.b * self.c,
            other.a * self.b + other.b * self.d,
            other.c * self.a + other.d * self.c,
            other.c * self.b + other.d * self.d,
        )


def rotation(angle: tf.Tensor) -> Map:
    """Turns the picture counter-clockwise by ``angle``, radians."""
    cos, sin = tf.cos(angle), tf.sin(angle)
    return Map(cos, -sin, sin, cos)


def shearing(x: tf.Tensor, y: tf.Tensor) -> Map:
    """Slants the picture: a pixel at (u, v) from the centre goes to (u + x v, v + y u).

    Args:
        x, y: tangents of the angles, x * y < 1.
    """
    part = 1.0 - x * y
    return Map(1.0 / part, -x / part, -y / part, 1.0 / part)


def zooming(factor: tf.Tensor) -> Map:
    """Enlarges the picture by ``factor``; below 1 shrinks it."""
    zero = tf.zeros_like(factor)
    return Map(1.0 / factor, zero, zero, 1.0 / factor)


def warp(
    image: tf.Tensor,
    where: Map | None,
    shift: tuple[tf.Tensor, tf.Tensor] | None = None,
    fill: str = "REFLECT",
    fill_value: float = 0.0,
) -> tf.Tensor:
    """Resamples about the centre of the picture, bilinear, and then shifts it.

    Args:
        image: float32 [S, S, 3] of a known size.
        where: None only shifts.
        shift: pixels to the right and down.
        fill: what stands outside the picture: ``REFLECT`` (c b a | a b c), ``CONSTANT``
            (``fill_value``), ``WRAP``, ``NEAREST``.

    Returns:
        float32 [S, S, 3].
    """
    width, height = image.shape[1] - 1.0, image.shape[0] - 1.0
    a, b, c, d = where or Map(*tf.unstack(tf.constant([1.0, 0.0, 0.0, 1.0])))
    # The centre stays where it is; what is shifted to a place is looked up where it came from.
    x = (width - (a * width + b * height)) / 2.0
    y = (height - (c * width + d * height)) / 2.0
    if shift is not None:
        x -= a * shift[0] + b * shift[1]
        y -= c * shift[0] + d * shift[1]
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([a, b, x, c, d, y, zero, zero])[None],
        output_shape=tf.constant(image.shape[:2].as_list(), tf.int32),
        fill_value=fill_value,
        interpolation="BILINEAR",
        fill_mode=fill,
    )[0]


def rotate(image: tf.Tensor, angle: tf.Tensor, fill: str = "REFLECT") -> tf.Tensor:
    """Rotates about the centre, counter-clockwise by ``angle`` radians; see :func:`warp`."""
    return warp(image, rotation(angle), fill=fill)


def cutout(image: tf.Tensor, part: float, draws: tf.Tensor) -> tf.Tensor:
    """A grey square at a uniform place, as far as it lies in the picture.

    The middle of the square is drawn from all pixels (DeVries and Taylor, 2017), so at the edge a
    part of it is cut off.

    Args:
        image: float32 [S, S, 3] of a known size.
        part: side of the square as a part of S, above 0; at least one pixel.
        draws: float32 [2], uniform in [0, 1).
    """
    size = int(image.shape[0])
    side = max(1, round(part * size))
    # A draw is below 1, but the product may round up to the size.
    middle = tf.minimum(tf.floor(draws * size), size - 1.0)
    start = tf.cast(middle, tf.int32) - side // 2
    at = tf.range(size)
    rows, columns = ((at >= start[axis]) & (at < start[axis] + side) for axis in (0, 1))
    return tf.where((rows[:, None] & columns[None, :])[..., None], GREY, image)
