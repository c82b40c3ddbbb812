"""Pictures of the case study: where they come from, and that no animal is on both sides."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "jobs"))

from case_study_parts import animals  # noqa: E402 - beside the recipe, not in the package
from quickstart_parts.downloads import Unusable  # noqa: E402


@pytest.fixture
def stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine stamps of each kind, and a drawing."""
    monkeypatch.setattr(animals, "LEAST", dict.fromkeys(animals.KINDS, 9))
    for kind in animals.KINDS:
        for number in range(9):
            _stamp(tmp_path / "stamps" / "animals" / kind / f"{kind}{number}.png", number)
        _stamp(tmp_path / "stamps" / "animals" / kind / "cartoon" / "drawn.png", 1)
    return tmp_path / "stamps"


def _stamp(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = Image.new("RGBA", (300, 100 + number), (0, 0, 0, 0))
    stamp.paste((255, 0, 0, 255), (100, 20, 200, 80))
    stamp.save(path)


def test_no_animal_is_on_both_sides(stamps: Path, tmp_path: Path) -> None:
    counts = animals.write(stamps, tmp_path / "out")
    assert counts == {"train": 12, "validation": 6}
    names = {
        part: {path.name for path in (tmp_path / "out" / part).glob("*/*.png")} for part in counts
    }
    assert not names["train"] & names["validation"]
    assert "drawn.png" not in names["train"] | names["validation"]
    for path in (tmp_path / "out").rglob("*.png"):
        with Image.open(path) as picture:
            assert picture.size == (animals.SIDE, animals.SIDE)
            assert picture.mode == "RGB"
            assert picture.getpixel((80, 80)) == (255, 0, 0)
            assert picture.getpixel((0, 0)) == animals.colour_of(path.stem)


def test_too_few_are_refused(stamps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animals, "LEAST", dict.fromkeys(animals.KINDS, 10))
    with pytest.raises(Unusable, match="9 pictures of birds, not 10"):
        animals.pictures_of(stamps, "birds")


def test_without_apt_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animals, "INSTALLED", tmp_path / "no")
    monkeypatch.setattr(animals.shutil, "which", lambda name: None)
    with pytest.raises(Unusable, match="name other pictures"):
        animals.stamps(tmp_path)


def test_what_is_installed_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animals, "INSTALLED", tmp_path)
    assert animals.stamps(tmp_path / "downloads") == tmp_path
    assert not (tmp_path / "downloads").exists()
