"""The text job on some hundred texts, with the real encoder: it learns, or says what it lacks."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = "jobs/text_sentiment.yaml"
LEAST_GAIN = 0.1
# Measured: 0.90 against a larger class of 0.62.
LEAST_BETTER = 0.12
# Measured: 0.20, 0.25 and 0.21 more than the better peer; 0.74 against 0.71 on films.


def table(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream, delimiter="\t"))


@pytest.fixture(scope="module")
def some(text_job: Path, tmp_path_factory) -> Path:
    """Every twelfth text for training, every eighth for the test."""
    folder = tmp_path_factory.mktemp("some")
    for name, each in (("train", 12), ("test", 8)):
        head, *rows = table(text_job / "texts" / f"{name}.tsv")
        with (folder / f"{name}.tsv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, delimiter="\t").writerows([head, *rows[::each]])
    return folder


def overrides(some: Path) -> list[str]:
    values = {
        "data.train": some / "train.tsv",
        "data.test": some / "test.tsv",
        "training.phases.0.epochs": 3,
        "cluster.device": "cpu",
    }
    return [part for path, value in values.items() for part in ("-o", f"{path}={value}")]


@pytest.fixture(scope="module")
def run(some: Path, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("text_job") / "run"
    command = [sys.executable, "-m", "harness", "run", SPEC, "--run-dir", str(run_dir)]
    subprocess.run([*command, *overrides(some)], cwd=ROOT, check=True)
    return run_dir


def test_it_beats_the_larger_class_clearly(run: Path, some: Path) -> None:
    labels = Counter(row[1] for row in table(some / "test.tsv")[1:])
    record = json.loads((run / "run.json").read_text())
    assert record["final"]["test_accuracy"] >= max(labels.values()) / labels.total() + LEAST_GAIN
    assert record["exact"] is True
    assert record["parameters"] == {"backbone": 22_565_376, "trainable": 2 * 384 + 2}


# Every so many rows of each; whole reviews stay on one side, as the rows are those of the sides.
COMPARED = {"movies_train": 10, "movies_test": 9, "products": 18, "news": 7, "tweets": 20}


def test_the_encoder_beats_counted_words_on_what_it_never_saw(
    text_job: Path, tmp_path: Path
) -> None:
    """jobs/sentiment_compare.py on a tenth of the films."""
    for name, each in COMPARED.items():
        head, *rows = table(text_job / "texts" / f"{name}.tsv")
        with (tmp_path / f"{name}.tsv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, delimiter="\t").writerows([head, *rows[::each]])
    command = [sys.executable, "jobs/sentiment_compare.py", "--seeds", "1"]
    command += ["--only", "frozen encoder", "--texts", str(tmp_path), "--out", str(tmp_path / "o")]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "| 0." in line]
    found = {name: [float(value) for value in values] for name, *values in lines}
    encoder = found.pop("frozen encoder")
    assert len(found) == 2
    for movies, *others in found.values():
        assert encoder[0] >= movies
        gains = [ours - theirs for ours, theirs in zip(encoder[1:], others, strict=True)]
        assert min(gains) >= LEAST_BETTER, (found, encoder)


def test_new_texts_are_told_apart(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(
        "text\nThe screen broke after a week and nobody answers.\n"
        '"Best purchase I have made all year, I love it!"\n'
    )
    command = [sys.executable, "-m", "harness", "predict", str(run), "new.csv", "--json"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    found = [(one["file"], one["label"]) for one in json.loads(done.stdout)]
    assert found == [("new.csv:2", "negative"), ("new.csv:3", "positive")]


WITHOUT = """
import sys
sys.modules["tensorflow_text"] = None  # as if it were not installed
from harness.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


HALVES = {
    "backbone.handle": "hub:build/text/backbone/minilm_encoder",
    "backbone.preprocessor": "hub:build/text/backbone/minilm_preprocessor",
    "backbone.output": "pooled_output",
}


@pytest.mark.parametrize(
    ("backbone", "which"),
    [({}, "backbone.handle: the backbone"), (HALVES, "backbone.preprocessor: the preprocessor")],
)
def test_without_tensorflow_text_it_says_what_to_install(
    backbone: dict[str, str], which: str, some: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", WITHOUT, "run", SPEC, "--run-dir", str(tmp_path / "run")]
    other = [part for name, value in backbone.items() for part in ("-o", f"{name}={value}")]
    done = subprocess.run(
        [*command, *overrides(some), *other], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    assert f"{which} needs TensorFlow Text" in done.stderr
    assert "pip install 'harness[text]'" in done.stderr


def test_the_encoder_can_be_trained_and_takes_odd_texts(text_job: Path) -> None:
    import tensorflow as tf
    import tensorflow_hub as hub
    import tensorflow_text  # noqa: F401 - its operations

    layer = hub.KerasLayer(str(text_job / "backbone" / "minilm"), trainable=True)
    assert len(layer.trainable_variables) == 101
    texts = ["", "word " * 1000, "word " * 254, "caf\u00e9", "cafe", "\u4f60\u597d \U0001f600"]
    vectors = layer(tf.constant(texts)).numpy()
    assert vectors.shape == (6, 384) and np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(vectors[1], vectors[2], atol=1e-5, err_msg="cut to 256 tokens")
    np.testing.assert_allclose(vectors[3], vectors[4], atol=1e-6, err_msg="accents do not count")
    alone = layer(tf.constant(texts[3:4])).numpy()
    np.testing.assert_allclose(alone[0], vectors[3], atol=1e-5, err_msg="padding does not count")


def test_the_two_halves_give_what_the_whole_gives(text_job: Path) -> None:
    import tensorflow as tf
    import tensorflow_hub as hub
    import tensorflow_text  # noqa: F401 - its operations

    from harness.model.backbone import Pinned
    from harness.model.encoder import load_module
    from harness.spec import Trust, load_spec

    texts = tf.constant(["", "It's so sunny outside!", "caf\u00e9 " * 9, "\u4f60\u597d \U0001f600"])
    wanted = hub.KerasLayer(str(text_job / "backbone" / "minilm"))(texts).numpy()
    for output, pooling in (("pooled_output", None), ("sequence_output", "average")):
        changes = {**HALVES, "backbone.output": output, "backbone.max_length": 24}
        spec = load_spec(ROOT / SPEC, overrides=changes).spec
        found = load_module(spec.backbone, pooling, Pinned(), Trust())
        vectors = tf.math.l2_normalize(found.layer(texts), axis=1).numpy()
        np.testing.assert_allclose(vectors, wanted, atol=1e-6)
        assert len(found.trainable()) == 101


def test_no_text_and_no_review_is_on_both_sides(text_job: Path) -> None:
    train, test = (table(text_job / "texts" / f"{name}.tsv")[1:] for name in ("train", "test"))
    assert len(train) == 4135 and len(test) == 919
    for column in (0, 2):
        sides = [{row[column].casefold() for row in rows} for rows in (train, test)]
        assert not sides[0] & sides[1]
    assert {row[1] for row in train} == {row[1] for row in test} == {"positive", "negative"}
    assert all((float(row[3]) > 0) == (row[1] == "positive") for row in [*train, *test])
