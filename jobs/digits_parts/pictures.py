"""Two kinds of pictures of digits: printed, by the fonts of matplotlib, and written by hand."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONTS_PACKAGE = "matplotlib==3.10.7"
FONTS_FOLDER = "matplotlib/mpl-data/fonts/ttf/"
HANDWRITING_PACKAGE = "scikit-learn==1.7.2"
HANDWRITING = "sklearn/datasets/data/digits.csv.gz"
HANDWRITING_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"

SIDE = 32
EACH = 12
"""Pictures of a digit by a font."""
WITHOUT_DIGITS = ("STIXNon", "STIXSiz", "cmex", "cmmi", "cmsy", "DejaVuSansD", "DejaVuSerifD")
"""Beginnings of the names of fonts that have symbols only, or digits of another form."""
_SEED = 20260101


def fonts(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the fonts in a wheel of matplotlib that have digits, by name."""
    with zipfile.ZipFile(wheel) as opened:
        names = sorted(n for n in opened.namelist() if n.startswith(FONTS_FOLDER))
        for name in names:
            stem = Path(name).stem
            if name.endswith(".ttf") and not stem.startswith(WITHOUT_DIGITS):
                yield stem, opened.read(name)


def write_printed(wheel: Path, folder: Path, sharp: Path) -> int:
    """Writes FOLDER/DIGIT/FONT-NUMBER.png, white on black; returns how many.

    In ``folder`` they have the resolution of the handwritten ones, 8 x 8, in ``sharp`` their own.
    """
    draw, count = np.random.default_rng(_SEED), 0
    for place in (folder, sharp):
        for digit in range(10):
            (place / str(digit)).mkdir(parents=True)
    for name, data in fonts(wheel):
        font = ImageFont.truetype(io.BytesIO(data), 96)
        for digit in range(10):
            glyph = _glyph(font, str(digit))
            for number in range(EACH):
                picture, file = _placed(glyph, draw), f"{digit}/{name}-{number:02d}.png"
                picture.convert("RGB").save(sharp / file)
                _enlarged(np.asarray(picture.resize((8, 8), Image.Resampling.BOX))).save(
                    folder / file
                )
                count += 1
    return count


def write_handwriting(digits: bytes, target: Path, test: Path) -> tuple[int, int]:
    """Writes every second digit to TARGET/NUMBER.png, and the others to TEST/DIGIT/NUMBER.png.

    Args:
        digits: ``digits.csv.gz`` of scikit-learn: 64 numbers from 0 to 16, row by row, and the
            digit that they show.
    """
    target.mkdir(parents=True)
    for digit in range(10):
        (test / str(digit)).mkdir(parents=True)
    rows = list(csv.reader(io.TextIOWrapper(gzip.GzipFile(fileobj=io.BytesIO(digits)))))
    counts = [0, 0]
    for number, row in enumerate(rows):
        values = np.array(row, np.float64)
        picture = _enlarged(np.uint8(np.round(values[:64].reshape(8, 8) * 255 / 16)))
        side = number % 2
        folder = test / str(int(values[64])) if side else target
        picture.save(folder / f"{number:04d}.png")
        counts[side] += 1
    return counts[0], counts[1]


def _glyph(font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    """A digit, cut out to its ink."""
    whole = Image.new("L", (192, 192))
    ImageDraw.Draw(whole).text((48, 24), text, fill=255, font=font)
    return whole.crop(whole.getbbox())


def _placed(glyph: Image.Image, draw: np.random.Generator) -> Image.Image:
    """A digit of some size, slant and place: as forms are filled in, not as lines are set."""
    height = int(draw.integers(22, 31))
    width = round(height * glyph.width / glyph.height * draw.uniform(0.9, 1.3))
    width = int(np.clip(width, 4, SIDE - 2))
    small = glyph.resize((width, height), Image.Resampling.BILINEAR)
    left = (SIDE - width) // 2 + int(draw.integers(-2, 3))
    top = (SIDE - height) // 2 + int(draw.integers(-1, 2))
    picture = Image.new("L", (SIDE, SIDE))
    picture.paste(small, (left, top))
    return picture.rotate(draw.uniform(-10, 10), Image.Resampling.BILINEAR)


def _enlarged(grid: np.ndarray) -> Image.Image:
    """A picture of 8 x 8 grey values."""
    whole = Image.fromarray(grid).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return whole.convert("RGB")
