"""Thirteen photographs cut into square crops: a small real set of textures and scenes.

Every photograph is one class.  Its right-hand 30 % is the test region, the rest the training
region, and crops never overlap, so no pixel is in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from quickstart_parts.downloads import PHOTOGRAPHS_FOLDER, read_checked

TEST_SHARE = 0.3
# Of a crop, the share of pixels that may be black: outside the disk of the retina camera.
_BLACK_SHARE = 0.2


@dataclass(frozen=True)
class Photograph:
    """One class: the file in the wheel, its SHA-256, the side of a crop in pixels."""

    name: str
    file: str
    sha256: str
    side: int
    black_border: bool = False


PHOTOGRAPHS = (
    Photograph(
        "brick",
        "brick.png",
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
        48,
    ),
    Photograph(
        "cell",
        "cell.png",
        "8d23a7fb81f7cc877cd09f330357fc7f595651306e84e17252f6e0a1b3f61515",
        48,
    ),
    Photograph(
        "coffee",
        "coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        48,
    ),
    Photograph(
        "coins",
        "coins.png",
        "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
        36,
    ),
    Photograph(
        "galaxies",
        "hubble_deep_field.jpg",
        "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
        64,
    ),
    Photograph(
        "grass",
        "grass.png",
        "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
        48,
    ),
    Photograph(
        "gravel",
        "gravel.png",
        "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
        48,
    ),
    Photograph(
        "handwriting",
        "text.png",
        "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1",
        32,
    ),
    Photograph(
        "moon",
        "moon.png",
        "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577",
        48,
    ),
    Photograph(
        "motorcycle",
        "motorcycle_left.png",
        "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
        64,
    ),
    Photograph(
        "print",
        "page.png",
        "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
        32,
    ),
    Photograph(
        "retina",
        "retina.jpg",
        "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
        96,
        black_border=True,
    ),
    Photograph(
        "tissue",
        "ihc.png",
        "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
        48,
    ),
)
# No class: the picture by which the mapping of the weights is checked.
CAT = Photograph(
    "cat",
    "chelsea.png",
    "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    224,
)


def pixels(archive: Path, photograph: Photograph) -> np.ndarray:
    """The photograph as uint8 [H, W, C], C = 1 or 3 as it was stored."""
    data = read_checked(archive, PHOTOGRAPHS_FOLDER + photograph.file, photograph.sha256)
    return tf.io.decode_image(data, expand_animations=False).numpy()


def crops(picture: np.ndarray, photograph: Photograph) -> Iterator[tuple[str, bool, np.ndarray]]:
    """(row and column, whether in the test region, uint8 [side, side, C]) of every crop."""
    side = photograph.side
    rows, columns = picture.shape[0] // side, picture.shape[1] // side
    first_test = round(columns * (1.0 - TEST_SHARE))
    for row in range(rows):
        for column in range(columns):
            crop = picture[row * side : (row + 1) * side, column * side : (column + 1) * side]
            black = float(np.mean(crop.max(axis=-1) < 40))
            if not (photograph.black_border and black > _BLACK_SHARE):
                yield f"r{row:02d}c{column:02d}", column >= first_test, crop


def _write(folder: Path, stem: str, crop: np.ndarray) -> None:
    # Both formats that people have: grey crops as PNG, coloured ones as JPEG.
    folder.mkdir(parents=True, exist_ok=True)
    if crop.shape[-1] == 1:
        (folder / f"{stem}.png").write_bytes(tf.io.encode_png(crop).numpy())
    else:
        (folder / f"{stem}.jpg").write_bytes(tf.io.encode_jpeg(crop, quality=95).numpy())


def write_data_set(archive: Path, folder: Path) -> dict[str, int]:
    """Writes ``train/CLASS/``, ``test/CLASS/`` and one crop a class into ``heldback/``.

    The held-back crop is the middle one of the test region and is not in ``test/``.

    Returns:
        the number of pictures in each of the three.
    """
    counts = {"train": 0, "test": 0, "heldback": 0}
    for photograph in PHOTOGRAPHS:
        cut = list(crops(pixels(archive, photograph), photograph))
        tests = [place for place, is_test, _ in cut if is_test]
        for place, is_test, crop in cut:
            if place == tests[len(tests) // 2]:
                part, inside, stem = "heldback", folder / "heldback", photograph.name
            else:
                part = "test" if is_test else "train"
                inside, stem = folder / part / photograph.name, f"{photograph.name}_{place}"
            _write(inside, stem, crop)
            counts[part] += 1
    return counts
