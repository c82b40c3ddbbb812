"""Runs with a preprocessor: killed and continued, on several ranks, and built on by another."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from harness.cli.main import main
from tests.horovod_here import need_horovod
from tests.local.rank_helpers import assert_all, run_ranks
from tests.local.test_training_bert import PHASES, TWO, parts, spec_of
from tests.local.training_helpers import (
    assert_equal_losses,
    assert_same_result,
    lines,
    mischief,
    record,
    run_here,
    write_spec,
)

__all__ = ["parts"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, parts) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = spec_of(folder, parts)
    run_here(spec, folder / "cache")
    return spec


def test_killed_in_the_midst_of_unfreezing_it_ends_with_the_same_bits(undisturbed, parts, tmp_path):
    steps = lines(undisturbed.parent / "run" / "metrics.jsonl")[-1]["step"]
    spec = spec_of(tmp_path, parts, **mischief(tmp_path, at=steps - 2, number=9))
    run_here(spec, tmp_path / "cache", code=-signal.SIGKILL, alone=True)
    run_here(spec, tmp_path / "cache")
    assert_same_result(tmp_path / "run", undisturbed.parent / "run")
    assert record(spec)["exact"] is True


@pytest.mark.parametrize("strategy", ["horovod", "multiworker"])
def test_two_ranks_have_the_losses_of_one(strategy, undisturbed, parts, tmp_path):
    if strategy == "horovod":
        need_horovod("gloo")
    spec = spec_of(tmp_path, parts)
    command = ["run", str(spec), "--run-dir", str(tmp_path / "run")]
    own = {"HARNESS_CACHE": str(tmp_path / "cache")}
    chosen = f"-o=cluster.strategy={strategy}"
    assert_all(run_ranks(tmp_path / "logs", 2, *command, chosen, each=lambda rank: own))
    assert_equal_losses(tmp_path / "run", undisturbed.parent / "run")
    digests = ("backbone_digest", "preprocessor_digest")
    assert [record(spec)[d] for d in digests] == [record(undisturbed)[d] for d in digests]


def test_a_run_is_built_on_one_with_a_preprocessor(undisturbed, parts, tmp_path, capsys):
    import tensorflow as tf

    from harness.runs.paths import RunPaths
    from harness.spec import Trust
    from harness.worker.load import load_run

    earlier = undisturbed.parent / "run"
    changes = {
        "task": "text_classification",
        "backbone.handle": f"run:{earlier}",
        "data.train": str(parts.data / "train.tsv"),
        "data.test": str(parts.data / "test.tsv"),
        "data.image_size": None,
        "data.columns": {"text": "what"},
        "data.augment": {},
        "head": {"dropout": 0.1},
        "training.feature_cache": "auto",
        "training.phases": PHASES[:1],
    }
    spec = write_spec(tmp_path, earlier, parts.data, **changes)
    said = run_here(spec, tmp_path / "cache")
    assert "features of the train and validation examples computed" in said
    assert record(spec)["final"]["test_accuracy"] >= 0.8
    assert record(spec)["backbone_digest"] != record(undisturbed)["backbone_digest"]
    # What it learns on is what the earlier one has made of its encoder, texts and all.
    texts = [text.strip() for text in TWO]
    models = [load_run(RunPaths(run), Trust()).model for run in (earlier, tmp_path / "run")]
    features = [model.features(tf.constant(texts)).numpy() for model in models]
    np.testing.assert_array_equal(*features)
    assert features[0].shape == (2, 32)
    (tmp_path / "new.tsv").write_text("\n".join(["what", *texts]) + "\n")
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "new.tsv")]) == 0
    assert capsys.readouterr().out.count("dog") >= 1
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "model")]) == 0
    # Another preprocessor would be other features: a changed one is seen through the earlier run.
    (vocabulary,) = (parts.before / "assets").iterdir()
    words = vocabulary.read_text()
    vocabulary.write_text(words.replace("naps", "maps"))
    try:
        more = ("-o", "training.phases.0.epochs=3")
        said = run_here(spec, tmp_path / "cache", *more, code=4)
    finally:
        vocabulary.write_text(words)
    assert "the preprocessor is not the one" in said
