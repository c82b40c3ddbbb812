"""A thousand photographs of 500x375 pixels in ten classes, as a folder and packed.

They are parts of the photographs of scikit-image, whose wheel the quickstart takes, stretched to
the size and encoded as JPEG with quality 90: 55 kB each on average.  Made once under
build/bench; the same files each time.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "bench"
WIDTH, HEIGHT, COUNT, QUALITY = 500, 375, 1000, 90
LARGE_COUNT = 120
TEXTURED = ("brick", "coffee", "coins", "galaxies", "grass", "gravel", "moon", "motorcycle",
            "tissue", "cat")  # fmt: skip


def folder() -> Path:
    """The folder per class."""
    return _made("photographs", COUNT, WIDTH, HEIGHT)


def large() -> Path:
    """Some of 2000x1500 pixels, also in a folder per class."""
    return _made("photographs-large", LARGE_COUNT, 4 * WIDTH, 4 * HEIGHT)


def squares(count: int, seed: int = 0) -> Path:
    """Of 224x224 pixels, in a folder per class; other seeds give other parts."""
    name = f"squares-{count}" + (f"-{seed}" if seed else "")
    return _made(name, count, 224, 224, 1000 * seed)


def _made(name: str, count: int, width: int, height: int, seed: int = 0) -> Path:
    made = FOLDER / name
    if not made.exists():
        part = FOLDER / f"{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        for number, texture in enumerate(TEXTURED):
            random = np.random.default_rng(seed + number)
            _draw(part / texture, texture, random, count // len(TEXTURED), (width, height))
        part.rename(made)
    return made


def packed(source: Path, name: str, *options: str) -> Path:
    """A folder packed with ``options`` of the verb, by default in shards of 10 MB."""
    made = FOLDER / name
    command = [sys.executable, "-m", "harness", "pack", str(source), str(made), "--shard-mb=10"]
    subprocess.run([*command, *options], check=True, capture_output=True, cwd=ROOT)  # noqa: S603 - ours
    return made


def many(times: int) -> Path:
    """The folder with each file under ``times`` names, which takes no space."""
    made = FOLDER / f"photographs-{times}"
    if not made.exists():
        part = FOLDER / "many.part"
        shutil.rmtree(part, ignore_errors=True)
        for path in folder().rglob("*.jpg"):
            (part / path.parent.name).mkdir(parents=True, exist_ok=True)
            for number in range(times):
                os.link(path, part / path.parent.name / f"{path.stem}-{number:03d}.jpg")
        part.rename(made)
    return made


def contents(of: Path | None = None) -> list[bytes]:
    """The bytes of all files of a folder, in the order of their names."""
    return [path.read_bytes() for path in sorted((of or folder()).rglob("*.jpg"))]


def _draw(
    folder: Path, name: str, random: np.random.Generator, count: int, size: tuple[int, int]
) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    whole = _photograph(name)
    for number in range(count):
        # A part of at least the size where the photograph has it, else it is enlarged.
        width = int(random.integers(min(WIDTH, whole.width) * 3 // 4, whole.width + 1))
        height = min(whole.height, width * HEIGHT // WIDTH)
        left = int(random.integers(0, whole.width - width + 1))
        top = int(random.integers(0, whole.height - height + 1))
        part = whole.crop((left, top, left + width, top + height))
        part = part.resize(size, Image.Resampling.LANCZOS)
        part.save(folder / f"{number:03d}.jpg", quality=QUALITY)


def _photograph(name: str):
    from PIL import Image

    sys.path.insert(0, str(ROOT / "jobs"))
    from quickstart_parts.downloads import PHOTOGRAPHS_FOLDER, read_checked
    from quickstart_parts.photographs import CAT, PHOTOGRAPHS

    wheels = sorted((ROOT / "build" / "downloads").glob("scikit_image-*.whl"))
    (photograph,) = [one for one in (*PHOTOGRAPHS, CAT) if one.name == name]
    data = read_checked(wheels[0], PHOTOGRAPHS_FOLDER + photograph.file, photograph.sha256)
    return Image.open(io.BytesIO(data)).convert("RGB")
