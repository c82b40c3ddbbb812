"""The four rated corpora of Hutto and Gilbert (2014) as manifests of texts.

C.J. Hutto and E.E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text", ICWSM 2014.  Each snippet has the mean of many people's ratings, from -4 to 4.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {
    "products": "amazonReviewSnippets",
    "tweets": "tweets",
    "movies": "movieReviewSnippets",
    "news": "nytEditorialSnippets",
}
TRAINED = ("products", "tweets")
"""Corpora that are trained on and tested; the others show how far that carries."""
CLEAR = 1.0
"""Mean ratings from here on are positive, those of at most the negative of it negative; what is
in between is left out."""
TEST_PART = 0.2
COLUMNS = ("text", "label", "document", "rating")


class Snippet(NamedTuple):
    """A rated text; snippets of one review or editorial have its name as ``document``."""

    text: str
    document: str
    rating: float

    @property
    def label(self) -> str | None:
        """None where people do not agree, or find it neutral."""
        if abs(self.rating) < CLEAR:
            return None
        return "positive" if self.rating > 0 else "negative"


def read_corpus(content: bytes, corpus: str) -> Iterator[Snippet]:
    """The snippets of one file: a number, a rating and a text in a line, tabs in between.

    Raises:
        ValueError: a line is something else.
    """
    for line in content.decode().splitlines():
        number, rating, text = line.split("\t")
        # A tweet stands alone; "12_3" is the third sentence of review 12.
        yield Snippet(
            " ".join(html.unescape(text).split()),
            f"{corpus}-{number.split('_')[0]}",
            float(rating),
        )


def chosen(snippets: Iterable[Snippet]) -> list[Snippet]:
    """Those with a label and a text, each text once, whatever its case."""
    seen: set[str] = set()
    kept = []
    for snippet in snippets:
        key = snippet.text.casefold()
        if snippet.label is not None and key and key not in seen:
            seen.add(key)
            kept.append(snippet)
    return kept


def is_test(document: str) -> bool:
    """Whether all of a document is for the test: a hash of its name, so it never changes."""
    digest = hashlib.blake2b(document.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < TEST_PART * 2**64


def parted(name: str, snippets: list[Snippet]) -> dict[str, list[Snippet]]:
    """The two sides of some snippets by the names of their files, which begin with ``name``."""
    return {
        f"{name}train": [one for one in snippets if not is_test(one.document)],
        f"{name}test": [one for one in snippets if is_test(one.document)],
    }


def write_manifests(archive: bytes, folder: Path) -> dict[str, int]:
    """Writes train.tsv and test.tsv of the corpora in :data:`TRAINED`, movies_train.tsv and
    movies_test.tsv, and one file of each corpus.

    Args:
        archive: the .zip of the source package.

    Returns:
        How many texts each of them holds, by the name of the file.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        inner = io.BytesIO(opened.read(ARCHIVE))
    found: dict[str, list[Snippet]] = {}
    with tarfile.open(fileobj=inner) as tar:
        for corpus, name in FILES.items():
            file = tar.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            if file is None:
                raise ValueError(f"{name} is no file of the archive")
            found[corpus] = list(read_corpus(file.read(), corpus))
    own = chosen(snippet for corpus in TRAINED for snippet in found[corpus])
    each = {corpus: chosen(found[corpus]) for corpus in FILES}
    manifests = {**parted("", own), **parted("movies_", each["movies"]), **each}
    for name, snippets in manifests.items():
        with (folder / f"{name}.tsv").open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, delimiter="\t", lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows((s.text, s.label, s.document, s.rating) for s in snippets)
    return {name: len(snippets) for name, snippets in manifests.items()}
