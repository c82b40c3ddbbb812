"""The preparation of the domain adaptation job: what it draws, and what it leaves out."""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "jobs"))

import digits_compare
from digits_parts import pictures

from harness.spec import load_spec


def test_fonts_without_digits_are_left_out(tmp_path: Path) -> None:
    names = ("cmr10.ttf", "cmsy10.ttf", "STIXGeneral.ttf", "STIXSizOneSymReg.ttf", "README.TXT")
    with zipfile.ZipFile(tmp_path / "m.whl", "w") as made:
        for name in names:
            made.writestr(pictures.FONTS_FOLDER + name, name)
        made.writestr("matplotlib/other/cmtt10.ttf", "elsewhere")
    found = dict(pictures.fonts(tmp_path / "m.whl"))
    assert found == {"STIXGeneral": b"STIXGeneral.ttf", "cmr10": b"cmr10.ttf"}


def test_handwriting_is_shared_out_and_only_the_test_has_labels(tmp_path: Path) -> None:
    rows = [[number % 17] * 64 + [number % 10] for number in range(23)]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    packed = gzip.compress(text.getvalue().encode())
    counts = pictures.write_handwriting(packed, tmp_path / "target", tmp_path / "test")
    assert counts == (12, 11)
    assert sorted(p.name for p in (tmp_path / "target").iterdir())[:2] == ["0000.png", "0002.png"]
    for path in (tmp_path / "test").glob("*/*.png"):
        number = int(path.stem)
        assert number % 2 == 1
        assert int(path.parent.name) == number % 10
        shown = np.asarray(Image.open(path))
        assert shown.shape == (pictures.SIDE, pictures.SIDE, 3)
        assert abs(float(shown.mean()) - (number % 17) * 255 / 16) < 1


@pytest.mark.parametrize("width", [10, 60, 300])
def test_a_printed_digit_is_inside_of_its_picture(width: int) -> None:
    glyph = Image.new("L", (width, 100), 255)
    drawn = [pictures._placed(glyph, np.random.default_rng(seed)) for seed in range(5)]
    for picture in drawn:
        assert picture.size == (pictures.SIDE, pictures.SIDE)
        assert np.asarray(picture).max() > 100
    assert len({picture.tobytes() for picture in drawn}) == 5
    again = pictures._placed(glyph, np.random.default_rng(0))
    assert again.tobytes() == drawn[0].tobytes()


def test_the_resolution_is_that_of_handwriting() -> None:
    """What is enlarged from 8 x 8 is as it was when it is made small again."""
    grid = np.random.default_rng(1).integers(60, 200, (8, 8)).astype(np.uint8)
    picture = pictures._enlarged(grid)
    assert (picture.size, picture.mode) == ((pictures.SIDE, pictures.SIDE), "RGB")
    again = picture.convert("L").resize((8, 8), Image.Resampling.BOX)
    assert np.abs(np.asarray(again, float) - grid).max() < 30


@pytest.mark.parametrize("method", digits_compare.METHODS)
def test_a_comparison_differs_from_the_recipe_in_the_adaptation_alone(method: str) -> None:
    plain = load_spec(digits_compare.RECIPE).spec
    other = load_spec(digits_compare.RECIPE, overrides=digits_compare.METHODS[method]).spec
    name = None if other.adaptation is None else other.adaptation.method
    assert name == (None if method == "source only" else method)
    assert other.model_copy(update={"adaptation": plain.adaptation}) == plain
