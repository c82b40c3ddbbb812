"""Sentiment of film reviews: words counted, a frozen sentence encoder, and one that is fine-tuned.

    python jobs/text_prepare.py
    pip install scikit-learn
    python jobs/sentiment_compare.py

All learn from the same sentences of film reviews and are asked about those of other reviews, and
about product reviews, editorials and tweets, of which they have seen none.  Prints the accuracies
as a table of Markdown, for runs their means over the seeds.  A run that is there already is not
repeated, so the same command continues an interrupted comparison.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import harness

RECIPE = Path(__file__).with_name("text_sentiment.yaml")
ASKED = ("movies_test", "products", "news", "tweets")
HEAD = {"name": "head", "epochs": 8, "unfreeze": "none", "learning_rate": 1.0e-2}
PHASES: dict[str, list[dict[str, object]]] = {
    "frozen encoder": [HEAD],
    "gradual unfreezing": [
        HEAD,
        {
            "name": "last",
            "epochs": 2,
            "unfreeze": "last:2",
            "learning_rate": {"head": 1.0e-4, "backbone": 1.0e-4, "decay_per_block": 0.7},
            "start_from": "best",
        },
        {
            "name": "all",
            "epochs": 2,
            "unfreeze": "all",
            "learning_rate": {"head": 5.0e-5, "backbone": 5.0e-5, "decay_per_block": 0.8},
            "start_from": "best",
        },
    ],
}


COUNTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "TF-IDF, logistic regression": ({}, {}),
    "the same, of pairs too, C=10": (
        {"ngram_range": (1, 2), "sublinear_tf": True},
        {"C": 10.0, "max_iter": 1000},
    ),
}
"""scikit-learn's defaults, and the best on the films of those tried (which favours it)."""


def read(file: Path) -> tuple[list[str], list[str]]:
    """Texts and labels of a manifest."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def words_counted(texts: Path, of_words: dict[str, Any], of_classes: dict[str, Any]) -> list[float]:
    """Accuracies of scikit-learn's TF-IDF with a logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(**of_words), LogisticRegression(**of_classes))
    model.fit(*read(texts / "movies_train.tsv"))
    return [float(model.score(*read(texts / f"{name}.tsv"))) for name in ASKED]


def trained(phases: list[dict[str, object]], texts: Path, folder: Path, seed: int) -> list[float]:
    """Accuracies of a run of the recipe on the film reviews."""
    kept = folder / "asked.json"
    what = {"texts": str(texts.resolve()), "asked": ASKED, "phases": phases}
    known = json.loads(kept.read_text()) if kept.exists() else {}
    if known.get("what") != json.loads(json.dumps(what)):
        changes = {
            "data.train": str((texts / "movies_train.tsv").resolve()),
            "data.test": str((texts / "movies_test.tsv").resolve()),
            "data.augment.word_drop": 0.0,
            "data.balance": "none",
            "training.seed": seed,
            "training.phases": phases,
            "training.early_stopping": None,
        }
        harness.run(RECIPE, overrides=changes, run_dir=folder)
        found = accuracies(folder, texts)
        known = {"what": what, "found": found}
        kept.write_text(json.dumps(known))
    return [float(value) for value in known["found"]]


def accuracies(run: Path, texts: Path) -> list[float]:
    """Of a run's best weights on what is asked."""
    from harness.runs.paths import RunPaths
    from harness.spec import Trust
    from harness.worker.load import load_run

    loaded = load_run(RunPaths(run), Trust())
    return [loaded.evaluate(str(texts / f"{name}.tsv"))["accuracy"] for name in ASKED]


def show(name: str, rows: list[list[float]]) -> None:
    """A line of the table: the means over the seeds."""
    means = [statistics.mean(column) for column in zip(*rows, strict=True)]
    print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in means) + " |", flush=True)


def main() -> int:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", choices=PHASES, nargs="+", default=list(PHASES))
    parser.add_argument("--texts", type=Path, default=Path("build/text/texts"))
    parser.add_argument("--out", type=Path, default=Path("build/text/runs"))
    args = parser.parse_args()
    print("| accuracy on | " + " | ".join(ASKED) + " |\n|---|" + "---|" * len(ASKED), flush=True)
    for name, options in COUNTED.items():
        show(name, [words_counted(args.texts, *options)])
    for name in args.only:
        of = args.out / name.replace(" ", "_")
        show(name, [trained(PHASES[name], args.texts, of / str(seed), seed) for seed in args.seeds])
    return 0


if __name__ == "__main__":
    sys.exit(main())
