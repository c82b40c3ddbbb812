"""A run's best weights as a SavedModel for any TensorFlow program or server.

The preparation of the training is inside: the default signature takes whole files of pictures
(JPEG, PNG, GIF, BMP or WebP), or texts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "a run's best weights as a SavedModel"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json
    from harness.cli.opened import add_run

    add_run(parser)
    parser.add_argument(
        "--to", metavar="DIR", help="folder to make; default: export/saved_model-STEP in the run"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.cli.common import print_json
    from harness.cli.opened import open_run

    loaded = open_run(args)
    folder = (
        Path(args.to).expanduser().absolute()
        if args.to
        else loaded.paths.export / f"saved_model-{loaded.step:08d}"
    )
    exported = loaded.export(folder)
    if args.json:
        print_json(
            {
                "path": str(exported.path),
                "digest": exported.digest,
                "step": loaded.step,
                "largest_difference": exported.largest_difference,
            }
        )
        return 0
    print(f"exported step {loaded.step} to {exported.path}")
    print(f"sha256   {exported.digest}")
    print(f"checked  answers of the reloaded model differ by {exported.largest_difference:.1e}")
    return 0
