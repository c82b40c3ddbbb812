"""Prepares what jobs/audio_words.yaml trains on, once: spoken words and a front end.

    python jobs/audio_prepare.py --out build/audio

OUT/train/WORD/, OUT/test/WORD/   recordings of eight words by the voices of espeak-ng
OUT/backbone/logmel/   a reusable SavedModel (Hub module): 16 kHz samples to 480 numbers

Needs Debian's espeak-ng and the extra `audio` (pip install 'harness[audio]').  An interrupted
preparation is continued by the same command, and a finished one returns at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from audio_parts import words
from quickstart_parts.making import Part, make_missing

# Raised when the recipe below makes something else than before; older results are then remade.
RECIPE = "1"


def make_words(downloads: Path, folder: Path) -> None:
    """Writes the recordings into ``folder``/train and test; nothing is downloaded."""
    counts = words.write_all(folder)
    print("audio: " + ", ".join(f"{n} of {name}" for name, n in counts.items()) + " recordings")


def make_backbone(downloads: Path, folder: Path) -> None:
    """Saves the front end in ``folder``; nothing is downloaded."""
    from audio_parts import logmel

    logmel.save_as_hub_module(logmel.FrontEnd(), folder)


PARTS: tuple[Part, ...] = ((("train", "test"), make_words), (("backbone/logmel",), make_backbone))


def main() -> int:
    """Reads the command line; 0 when everything is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/audio"))
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    lacking = []
    if words.speaker() is None:
        lacking.append("espeak-ng is missing; next: sudo .ci/system-packages speech")
    if importlib.util.find_spec("soundfile") is None:
        lacking.append("soundfile is missing; next: pip install 'harness[audio]'")
    for line in lacking:
        print(f"audio: {line}", file=sys.stderr)
    if lacking:
        return 3
    try:
        made = make_missing(args.out, args.out, PARTS, RECIPE, "audio")
    except RuntimeError as error:
        print(f"audio: {error}", file=sys.stderr)
        return 4
    print(f"audio: {args.out} is {'ready' if made else 'already prepared'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
