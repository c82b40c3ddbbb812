"""Labels and probabilities, or numbers, of new examples, by the best weights of a run.

A folder stands for all files in it, a manifest for those that its rows name, or for the texts in
it.  One that cannot be read does not stop the others; the exit code is 4 then.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.deploy.predict import Prediction

HELP = "labels and probabilities, or numbers, of new files, by the best weights of a run"

_TOP = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json
    from harness.cli.opened import add_run

    add_run(parser)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="files, folders, or manifests (.csv, .tsv)"
    )
    parser.add_argument("--top", type=int, help=f"labels shown a file (default {_TOP})")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.cli.common import print_json
    from harness.cli.opened import open_run
    from harness.errors import ExitCode, UsageError

    loaded = open_run(args)
    if args.top is not None and loaded.spec.numeric:
        raise UsageError(
            "--top is of labels, and the run learned numbers, which are all shown",
            got=f"--top {args.top}",
            action="leave it out",
        )
    found = list(loaded.predict(args.files))
    if args.json:
        print_json([prediction.to_json() for prediction in found])
    else:
        width = max(len(prediction.file) for prediction in found)
        top = _TOP if args.top is None else args.top
        for prediction in found:
            print(f"{prediction.file:<{width}}  {_words(prediction, top)}")
    failed = any(prediction.error is not None for prediction in found)
    return ExitCode.DATA if failed else ExitCode.DONE


def _words(prediction: Prediction, top: int) -> str:
    if prediction.error is not None:
        return f"error: {prediction.error}"
    if prediction.values is not None:
        return "  ".join(f"{name} {value:.6g}" for name, value in prediction.values.items())
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    each = "  ".join(f"{label} {probability:.3f}" for label, probability in ranked[:top])
    if prediction.labels is None:
        return each
    return f"{', '.join(prediction.labels) or 'none'}: {each}"
