"""Decoding and the one preparation of images, against Pillow and numpy."""

from __future__ import annotations

import io

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from harness.data.decode import decode, fit, prepare_image  # noqa: E402

PIXELS = np.random.default_rng(0).integers(0, 256, (13, 17, 3), np.uint8)


def encode(kind: str, mode: str, pixels: np.ndarray = PIXELS, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("PNG", "RGB"),
        ("PNG", "L"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("PNG", "LA"),
        ("PNG", "RGBA"),
        ("GIF", "RGB"),
        ("GIF", "L"),
        ("BMP", "RGB"),
        ("BMP", "RGBA"),
        ("BMP", "L"),
        ("BMP", "P"),
    ],
)
def test_lossless_kinds_give_pillows_pixels(kind, mode):
    contents = encode(kind, mode)
    wanted = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"))
    np.testing.assert_array_equal(decode(tf.constant(contents)), wanted)


@pytest.mark.skipif(not hasattr(tf.io, "decode_webp"), reason="this TensorFlow reads no WebP")
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_webp_gives_pillows_pixels(mode):
    contents = encode("WEBP", mode, lossless=True)
    wanted = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"))
    np.testing.assert_array_equal(decode(tf.constant(contents)), wanted)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_is_close_to_pillows_pixels(mode):
    smooth = np.indices((40, 50)).sum(0)[..., None] * np.array([1, 2, 0.5]) + 20
    contents = encode("JPEG", mode, smooth.astype(np.uint8), quality=95)
    wanted = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB")).astype(int)
    # Another inverse DCT and another way from CMYK: a few levels.
    assert np.abs(decode(tf.constant(contents)).numpy() - wanted).max() <= 4


def test_sixteen_bits_are_cut_to_eight():
    deep = (PIXELS[..., 0].astype(np.uint16) << 8) + 77
    stream = io.BytesIO()
    Image.fromarray(deep).save(stream, "PNG")
    got = decode(tf.constant(stream.getvalue())).numpy()
    np.testing.assert_array_equal(got, np.repeat(PIXELS[..., :1], 3, axis=2))


def test_first_frame_of_an_animation():
    frames = [Image.fromarray(np.full((4, 5, 3), v, np.uint8)) for v in (200, 10)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(tf.constant(stream.getvalue())), np.full((4, 5, 3), 200))


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"BM",
        b"plain text",
        encode("JPEG", "RGB")[:-30],
        encode("PNG", "RGB")[:-20],
        encode("GIF", "RGB")[:-40],
        encode("BMP", "RGB")[:-20],
        encode("BMP", "P")[:-20],
        encode("BMP", "P")[:60],
        encode("BMP", "1"),
    ],
    ids=["empty", "BM", "text", "jpeg", "png", "gif", "bmp", "palette", "no-palette", "1-bit"],
)
def test_what_is_no_whole_image_raises(contents):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant(contents))


def covered(length: int, size: int) -> np.ndarray:
    """[size, length]: the share of each pixel of the result that each old pixel covers."""
    edges = np.linspace(0, length, size + 1)
    low, high = edges[:-1, None], edges[1:, None]
    at = np.arange(length)
    shares = np.minimum(high, at + 1) - np.maximum(low, at)
    return np.clip(shares, 0, None) * size / length


@pytest.mark.parametrize(("height", "width", "size"), [(130, 170, 32), (64, 33, 32), (50, 99, 50)])
def test_a_shrunk_picture_is_the_mean_of_what_each_pixel_covers(height, width, size):
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    got = fit(tf.constant(pixels), size).numpy()
    wanted = np.einsum("ih,jw,hwc->ijc", covered(height, size), covered(width, size), pixels)
    np.testing.assert_allclose(got, wanted, atol=1e-2)


@pytest.mark.parametrize(("height", "width"), [(130, 20), (17, 300), (20, 20)])
def test_where_a_side_grows_the_filter_is_that_of_pillow(height, width):
    picture = Image.fromarray(PIXELS).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture, np.uint8)
    got = prepare_image(tf.constant(encode("PNG", "RGB", pixels)), 32).numpy()
    # Pillow's BILINEAR is the same triangle filter, in fixed point.
    wanted = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR))
    assert got.dtype == np.uint8 and got.shape == (32, 32, 3)
    assert np.abs(got.astype(int) - wanted).max() <= 1


def test_an_image_of_the_right_size_stays_as_it_is():
    square = PIXELS[:13, :13]
    contents = tf.constant(encode("PNG", "RGB", square))
    np.testing.assert_array_equal(prepare_image(contents, 13), square)


def test_full_range_is_kept():
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    resized = fit(tf.constant(board), 129).numpy()
    assert resized.min() >= 0 and resized.max() <= 255
    assert prepare_image(tf.constant(encode("PNG", "RGB", board)), 129).numpy().max() == 255


def test_the_same_pixels_inside_a_saved_model(tmp_path):
    contents = [encode("JPEG", "RGB"), encode("PNG", "L"), encode("BMP", "P")]
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(batch):
        spec = tf.TensorSpec([24, 24, 3], tf.uint8)
        return tf.map_fn(lambda one: prepare_image(one, 24), batch, fn_output_signature=spec)

    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "saved"))
    got = tf.saved_model.load(str(tmp_path / "saved")).serve(tf.constant(contents)).numpy()
    for row, one in zip(got, contents, strict=True):
        np.testing.assert_array_equal(row, prepare_image(tf.constant(one), 24))


def smooth_jpeg(width: int, height: int, mode: str = "RGB") -> bytes:
    """With enough detail that a wrong scale shows, and little beyond what a quarter has."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / period) + np.cos(y / (1.3 * period)) for period in (17, 31, 53)]
    pixels = np.stack([128 + 55 * wave for wave in waves], axis=-1).astype(np.uint8)
    return encode("JPEG", mode, pixels, quality=95)


@pytest.mark.parametrize(
    ("width", "height", "least", "wanted"),
    [
        (400, 320, 320, (320, 400)),
        (400, 320, 161, (320, 400)),
        (400, 320, 160, (160, 200)),
        (320, 401, 80, (101, 80)),
        (400, 320, 40, (40, 50)),
        (400, 320, 8, (40, 50)),
        (33, 17, 8, (9, 17)),
        (9, 9, 8, (9, 9)),
    ],
)
def test_a_jpeg_is_decoded_as_small_as_its_shorter_side_allows(width, height, least, wanted):
    scaled = decode(tf.constant(smooth_jpeg(width, height)), least)
    assert scaled.shape[:2] == wanted
    assert min(scaled.shape[:2]) >= least


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [200, 100, 50])
def test_a_picture_decoded_small_is_nearly_the_one_decoded_in_full(mode, size):
    contents = tf.constant(smooth_jpeg(400, 420, mode))
    full, scaled = (prepare_image(contents, size, least).numpy() for least in (0, size))
    assert np.abs(full.astype(int) - scaled.astype(int)).mean() < 3  # another scale: above 30
    assert (full != scaled).any()


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGB"), ("GIF", "L"), ("BMP", "P")])
def test_other_kinds_are_decoded_in_full(kind, mode):
    contents = tf.constant(encode(kind, mode))
    np.testing.assert_array_equal(decode(contents, 1), decode(contents))


def test_a_truncated_jpeg_is_no_small_picture_either():
    contents = smooth_jpeg(400, 320)
    for cut in (2, 20, 700, len(contents) // 2):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(tf.constant(contents[:cut]), 40)
