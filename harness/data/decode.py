"""From the bytes of an image file to uint8 pixels of a fixed size.

:func:`prepare_image` is the one preparation of validation, test, predict and export; training
without augmentation gives the same pixels.  Everything is graph code.
"""

from __future__ import annotations

from functools import partial

import tensorflow as tf

_BMP_BITS = 28
_BMP_INFO = 14
_BMP_USED = 46


def decode(contents: tf.Tensor, least: int = 0) -> tf.Tensor:
    """Pixels of JPEG, PNG, GIF (first frame), BMP or WebP bytes, whatever the file's name says.

    Grey is repeated into three channels, alpha is dropped, CMYK converted, 16 bit cut to 8, all
    as in ``tf.io.decode_image``; the orientation tag of cameras (EXIF) is not applied, as in
    Keras.  A BMP with a palette is looked up (TensorFlow would give the palette's row numbers).

    Args:
        contents: string scalar.
        least: of a JPEG, pixels that the shorter side must keep: it is decoded at a half, quarter
            or eighth of its size where that is possible, which the decoder does by leaving out
            the finer frequencies, and takes less time.  0 decodes in full.

    Returns:
        uint8 [height, width, 3].

    Raises:
        tf.errors.InvalidArgumentError: (when run) the bytes are no whole image of these kinds.
    """
    if not least:
        return _decode_full(contents)
    is_jpeg = tf.strings.substr(contents, 0, 3) == b"\xff\xd8\xff"
    image = tf.cond(
        is_jpeg, lambda: _decode_scaled(contents, least), lambda: _decode_full(contents)
    )
    return tf.ensure_shape(image, [None, None, 3])


def _decode_scaled(contents: tf.Tensor, least: int) -> tf.Tensor:
    shorter = tf.reduce_min(tf.io.extract_jpeg_shape(contents)[:2])
    choice = tf.reduce_sum(tf.cast(shorter // [2, 4, 8] >= least, tf.int32))
    branches = [
        partial(tf.io.decode_jpeg, contents, channels=3, ratio=ratio) for ratio in (1, 2, 4, 8)
    ]
    return tf.switch_case(choice, branches)


def _decode_full(contents: tf.Tensor) -> tf.Tensor:
    image = tf.cond(
        tf.strings.substr(contents, 0, 2) == b"BM",
        lambda: _decode_bmp(contents),
        lambda: _decode_any(contents),
    )
    return tf.ensure_shape(image, [None, None, 3])


def _decode_any(contents: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(contents, channels=3, expand_animations=False)


def _decode_bmp(contents: tf.Tensor) -> tf.Tensor:
    bits = tf.strings.substr(contents, tf.minimum(_BMP_BITS, tf.strings.length(contents)), 2)
    return tf.cond(
        bits == b"\x08\x00", lambda: _palette_bmp(contents), lambda: _decode_any(contents)
    )


def fit(image: tf.Tensor, size: int) -> tf.Tensor:
    """float32 [size, size, 3] in 0..255: the whole picture, squashed to a square.

    A photograph is averaged and not sampled.  Where no side grows, a pixel of the result is the
    mean of the area that it covers (OpenCV's INTER_AREA), else bilinear with antialiasing: a
    triangle filter as wide as the shrinkage.  The mean takes a third of the time of that filter
    and comes nearer to a Lanczos-3 reduction (on photographs shrunk 1.7, 2 and 4 times).  Keras'
    ``image_dataset_from_directory`` squashes too, but samples.

    Args:
        image: uint8 or float32 [height, width, 3] in 0..255.
        size: height and width in pixels.
    """
    sides, wanted = tf.shape(image)[:2], [size, size]
    resized = tf.cond(
        tf.reduce_all(sides >= size),
        lambda: tf.image.resize(image, wanted, method="area"),
        lambda: tf.image.resize(image, wanted, method="bilinear", antialias=True),
    )
    return tf.ensure_shape(resized, [size, size, 3])


def to_uint8(image: tf.Tensor) -> tf.Tensor:
    """Rounds (half to even) and clips float32 pixels in 0..255."""
    return tf.saturate_cast(tf.round(image), tf.uint8)


def prepared(image: tf.Tensor, size: int) -> tf.Tensor:
    """:func:`fit`, rounded: uint8 [size, size, 3] of a picture uint8 [height, width, 3]."""
    # Means and mixtures of whole pixels never leave 0..255, so nothing is to be clipped.
    return tf.cast(tf.round(fit(image, size)), tf.uint8)


def prepare_image(contents: tf.Tensor, image_size: int, least: int = 0) -> tf.Tensor:
    """The preparation of an image outside of training: decode, squash to a square, round.

    Works inside a SavedModel signature through ``tf.map_fn``.

    Args:
        contents: string scalar, the bytes of an image file.
        image_size: height and width S in pixels.
        least: see :func:`decode`.

    Returns:
        uint8 [S, S, 3].

    Raises:
        tf.errors.InvalidArgumentError: (when run) the bytes are no whole image.
    """
    return prepared(decode(contents, least), image_size)


def _palette_bmp(contents: tf.Tensor) -> tf.Tensor:
    """uint8 [height, width, 3] of an 8-bit BMP: rows of a table of (blue, green, red, 0)."""
    # channels=1 would say the same, but that is refused inside a graph.
    rows = tf.io.decode_bmp(contents, channels=0)[..., 0]
    header = _little_endian(contents, _BMP_INFO)
    used = _little_endian(contents, _BMP_USED)
    colours = tf.where(used == 0, 256, used)
    table = tf.io.decode_raw(tf.strings.substr(contents, _BMP_INFO + header, 4 * colours), tf.uint8)
    return tf.gather(tf.reshape(table, [-1, 4])[:, 2::-1], tf.cast(rows, tf.int32))


def _little_endian(contents: tf.Tensor, at: int) -> tf.Tensor:
    return tf.io.decode_raw(tf.strings.substr(contents, at, 4), tf.int32)[0]
