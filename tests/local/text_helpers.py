"""Texts of two kinds to learn, and specs of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.data.manifest import manifest_index
from harness.data.manifest_columns import ManifestOptions
from harness.data.media import TEXT

WORDS = {
    "cat": ("purrs", "meows", "naps", "hunts", "scratches"),
    "dog": ("barks", "fetches", "wags", "digs", "howls"),
}


TEXTS = 61
"""Neither lanes nor batches come out even."""


FILL = ("the", "animal", "today", "and", "then", "outside", "again", "quietly", "a", "lot")


def sentence(label: str, number: int) -> str:
    draw = np.random.default_rng([sorted(WORDS).index(label), number])
    some = [*draw.choice(FILL, 3), *draw.choice(WORDS[label], 4), str(number)]
    return " ".join(draw.permutation(some))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """One manifest for training and text files for the test."""
    folder = tmp_path_factory.mktemp("texts")
    rows = [f"{sentence(label, n)}\t{label}" for label in WORDS for n in range((TEXTS + 1) // 2)][
        :-1
    ]
    (folder / "train.tsv").write_text("\n".join(["what\tlabel", *rows]) + "\n")
    for label in WORDS:
        (folder / "test" / label).mkdir(parents=True)
        for n in range(100, 108):
            (folder / "test" / label / f"{n}.txt").write_text(sentence(label, n) + "\n")
    return folder


@pytest.fixture(scope="module")
def index(data):
    options = ManifestOptions(path=None, text="what", medium=TEXT)
    return manifest_index(data / "train.tsv", options)
