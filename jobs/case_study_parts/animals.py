"""Pictures of animals, in the folders that the published cats and dogs come in.

They are the stamps of Tux Paint, which Debian and its relatives package: animals without their
surroundings.  Each is drawn before a ground of one colour.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from quickstart_parts.downloads import Unusable

PACKAGE = "tuxpaint-stamps-default"
INSTALLED = Path("/usr/share/tuxpaint/stamps")
KINDS = ("birds", "mammals")
LEAST = {"birds": 30, "mammals": 60}
"""Pictures of each kind in the package of 2022; fewer are something else."""
SIDE = 160
TRAIN, VALIDATION = "train", "validation"


def stamps(downloads: Path) -> Path:
    """The folder of the stamps: as installed, or fetched by apt into ``downloads``.

    Raises:
        Unusable: neither is to be had.
    """
    if INSTALLED.is_dir():
        return INSTALLED
    kept = downloads / PACKAGE
    if not kept.is_dir():
        _fetch(downloads, kept)
    return kept / INSTALLED.relative_to("/")


def _fetch(downloads: Path, kept: Path) -> None:
    apt, unpack = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt is None or unpack is None:
        raise Unusable(
            f"{INSTALLED} is not there, and this system has no apt to fetch {PACKAGE}; next: "
            "install Tux Paint's stamps, or name other pictures with -o data.train and data.test"
        )
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads) as name:
        folder = Path(name)
        # Without root: it is unpacked here, and not installed.
        done = subprocess.run(  # noqa: S603 - found on the path, with words of our own
            [apt, "download", PACKAGE], cwd=folder, capture_output=True, text=True, check=False
        )
        found = sorted(folder.glob("*.deb"))
        if done.returncode or not found:
            raise Unusable(f"apt-get download {PACKAGE} failed: {done.stderr.strip()[-300:]}")
        subprocess.run([unpack, "-x", str(found[0]), str(folder / "x")], check=True)  # noqa: S603 - see above
        (folder / "x").rename(kept)


def pictures_of(folder: Path, kind: str) -> list[Path]:
    """The pictures of a kind, without drawings, sorted by name.

    Raises:
        Unusable: there are too few.
    """
    found = [
        path
        for path in sorted((folder / "animals" / kind).rglob("*.png"))
        if "cartoon" not in path.parts
    ]
    if len(found) < LEAST[kind]:
        raise Unusable(f"{folder} has {len(found)} pictures of {kind}, not {LEAST[kind]} or more")
    return found


def write(folder: Path, out: Path) -> dict[str, int]:
    """Draws all pictures into ``out``/train and validation; how many there are of each.

    Every third animal is for validation, and none is in both.
    """
    counts = dict.fromkeys((TRAIN, VALIDATION), 0)
    for kind in KINDS:
        for number, path in enumerate(pictures_of(folder, kind)):
            part = VALIDATION if number % 3 == 2 else TRAIN
            (out / part / kind).mkdir(parents=True, exist_ok=True)
            _draw(path, out / part / kind / path.name)
            counts[part] += 1
    return counts


def _draw(path: Path, to: Path) -> None:
    from PIL import Image

    colour = colour_of(path.stem)
    animal = Image.open(path).convert("RGBA")
    animal.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture = Image.new("RGBA", (SIDE, SIDE), (*colour, 255))
    at = ((SIDE - animal.width) // 2, (SIDE - animal.height) // 2)
    picture.alpha_composite(animal, at)
    picture.convert("RGB").save(to)


def colour_of(name: str) -> tuple[int, int, int]:
    """The colour of a ground, neither dark nor bright: the same each time."""
    red, green, blue = hashlib.sha256(name.encode()).digest()[:3]
    return 60 + red % 140, 60 + green % 140, 60 + blue % 140
