"""Prepares what jobs/case_study_keras.yaml and jobs/case_study_hub.yaml train on, once.

    python jobs/case_study_prepare.py --out build/case_study

OUT/mobilenet_v2/weights.h5   weights of keras.applications.MobileNetV2 without its top
OUT/mobilenet_v2/hub/         the same network and weights as a Hub module
OUT/animals/train/KIND/, OUT/animals/validation/KIND/   pictures of birds and mammals

Needs Pillow (pip install pillow), and Tux Paint's stamps: installed, or apt fetches them, without
root.  An interrupted preparation is continued by the same command, and a finished one returns at
once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from quickstart_parts.downloads import (
    Unusable,
)
from quickstart_parts.making import Part, make_missing

# Raised when the recipe below makes something else than before; older results are then remade.
RECIPE = "1"


def make_backbones(downloads: Path, folder: Path) -> None:
    """Writes the network for both interfaces."""
    from case_study_parts import application
    from quickstart_parts import mobilenet

    model = application.build(mobilenet.torch_weights(downloads))
    model.save_weights(str(folder / "weights.h5"))
    application.save_for_hub(model, folder / "hub")


def make_animals(downloads: Path, folder: Path) -> None:
    """Draws the pictures into ``folder``/train and validation."""
    from case_study_parts import animals

    counts = animals.write(animals.stamps(downloads), folder)
    print("case study: drew " + ", ".join(f"{n} {part}" for part, n in counts.items()))


PARTS: tuple[Part, ...] = (
    (("animals",), make_animals),
    (("mobilenet_v2",), make_backbones),
)


def main() -> int:
    """Reads the command line; 0 when everything is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/case_study"))
    parser.add_argument("--downloads", type=Path, default=Path("build/downloads"))
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    if importlib.util.find_spec("PIL") is None:
        print("case study: Pillow is missing; next: pip install pillow", file=sys.stderr)
        return 3
    try:
        made = make_missing(args.out, args.downloads, PARTS, RECIPE, "case study")
    except Unusable as error:
        print(f"case study: {error}", file=sys.stderr)
        return 4
    print(f"case study: {args.out} is {'ready' if made else 'already prepared'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
