"""Source-only against each adaptation of jobs/domain_adaptation.yaml, over some seeds.

    python jobs/digits_prepare.py
    python jobs/digits_compare.py
    python jobs/digits_compare.py --train build/digits/sharp

Prints the accuracy on handwriting by method and seed, as a table of Markdown.  A run that is there
already is not repeated, so the same command continues an interrupted comparison.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import harness

RECIPE = Path(__file__).with_name("domain_adaptation.yaml")
METHODS: dict[str, dict[str, object]] = {
    "source only": {"adaptation": None},
    "coral": {"adaptation.method": "coral", "adaptation.weight": 1.0},
    "mmd": {"adaptation.method": "mmd", "adaptation.weight": 1.0},
    "dann": {"adaptation.method": "dann", "adaptation.weight": 0.1},
    "adabn": {"adaptation.method": "adabn", "adaptation.weight": 0.1},
}
"""What is set beside the recipe; docs/domain-adaptation.md says how the weights were chosen."""


def accuracy(method: str, seed: int, train: Path, out: Path) -> float:
    """On the test set, of a run that is made unless it is there."""
    folder = out / train.name / f"{method.replace(' ', '_')}-{seed}"
    if not (folder / "FINISHED").exists():
        changes = {**METHODS[method], "training.seed": seed, "data.train": str(train.resolve())}
        harness.run(RECIPE, overrides=changes, run_dir=folder, quiet=True)
    return float(json.loads((folder / "run.json").read_text())["final"]["test_accuracy"])


def main() -> int:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--train", type=Path, default=Path("build/digits/train"))
    parser.add_argument("--out", type=Path, default=Path("build/digits/runs"))
    args = parser.parse_args()
    seeds = " | ".join(f"seed {seed}" for seed in args.seeds)
    print(f"| method | {seeds} | mean |\n|---|{'---|' * (len(args.seeds) + 1)}", flush=True)
    for method in METHODS:
        found = [accuracy(method, seed, args.train, args.out) for seed in args.seeds]
        shown = " | ".join(f"{value:.3f}" for value in [*found, statistics.mean(found)])
        print(f"| {method} | {shown} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
