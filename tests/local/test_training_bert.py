"""A user's own BERT with its preprocessor: trained, unfrozen, cached, continued, used, exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from harness.cli.main import main
from tests.local.text_helpers import FILL, WORDS, sentence
from tests.local.training_helpers import (
    assert_equal_losses,
    final_tensors,
    record,
    run_here,
    write_spec,
)

TOKENS = 4 + len(FILL) + sum(map(len, WORDS.values()))
PHASES = [
    {"name": "head", "epochs": 2, "learning_rate": 0.03},
    {"name": "all", "epochs": 1, "unfreeze": "all", "learning_rate": 0.003},
]


class Parts(NamedTuple):
    """Folders of the modules, and of the data."""

    before: Path
    bert: Path
    whole: Path
    data: Path


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Parts:
    from tests.local.bert_helpers import write_bert, write_preprocessor, write_whole

    root = tmp_path_factory.mktemp("parts")
    for name, numbers in (("train", range(24)), ("test", range(100, 108))):
        rows = [f"{sentence(label, n)}\t{label}" for label in WORDS for n in numbers]
        (root / f"{name}.tsv").write_text("\n".join(["what\tlabel", *rows]) + "\n")
    words = [*FILL, *(word for label in sorted(WORDS) for word in WORDS[label])]
    before = write_preprocessor(root / "before", words)
    bert = write_bert(root / "bert", TOKENS)
    whole = write_whole(root / "whole", before, bert, "pooled_output")
    return Parts(before, bert, whole, root)


def spec_of(folder: Path, parts: Parts, backbone: dict | None = None, **changes) -> Path:
    """A spec of the two modules, or of what ``backbone`` says beside the encoder."""
    usual = {"preprocessor": f"hub:{parts.before}", "output": "pooled_output"}
    chosen = usual if backbone is None else backbone
    changes = {
        "task": "text_classification",
        **{f"backbone.{name}": value for name, value in chosen.items()},
        "data.train": str(parts.data / "train.tsv"),
        "data.test": str(parts.data / "test.tsv"),
        "data.image_size": None,
        "data.columns": {"text": "what"},
        "data.augment": {},
        "head": {"dropout": 0.1},
        "training.feature_cache": "auto",
        "training.phases": PHASES,
    } | changes
    return write_spec(folder, parts.bert, parts.data, **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, parts) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    spec = spec_of(folder, parts)
    said = run_here(spec, folder / "cache")
    assert "features of the train and validation examples computed" in said
    return spec


def test_it_learns_and_records_both_modules(trained, parts):
    found = record(trained)
    assert found["final"]["test_accuracy"] >= 0.8
    assert found["exact"] is True
    assert found["preprocessor"] == f"hub:{parts.before}"
    assert len({found["backbone_digest"], found["preprocessor_digest"], None}) == 3
    assert found["parameters"]["backbone"] == 32 * (TOKENS + 42) + 2 * 7 * 32 * 32 + 32 * 32
    blocks = {one["phase"]: one["blocks"] for one in found["trained"]}
    assert blocks == {"head": [], "all": ["embeddings", "layer_0", "layer_1", "pooler"]}


def test_one_module_with_both_inside_gives_the_same_run(trained, parts, tmp_path):
    import tensorflow as tf
    import tensorflow_hub as hub

    from harness.model.backbone import Pinned
    from harness.model.encoder import load_module
    from harness.spec import Trust, load_spec

    whole = spec_of(tmp_path, parts, {"handle": f"hub:{parts.whole}"})
    run_here(whole, tmp_path / "cache")
    assert_equal_losses(trained.parent / "run", whole.parent / "run", relative=1e-6)
    texts = tf.constant([sentence("cat", 1), "naps", "", "unknown words " * 20])
    two = load_module(load_spec(trained).spec.backbone, None, Pinned(), Trust())
    one = hub.KerasLayer(str(parts.whole))
    np.testing.assert_allclose(two.layer(texts), one(texts), rtol=1e-6, atol=1e-6)


def test_all_of_it_is_trained_and_nothing_of_the_preprocessor(trained):
    from tests.local.bert_helpers import Bert

    kept = {name.rpartition("bert/")[2]: value for name, value in final_tensors(
        trained.parent / "run"
    ).items() if name.startswith("model/bert/")}  # fmt: skip
    for variable in Bert(TOKENS).variables:
        name = variable.name.removeprefix("bert/").split(":")[0]
        (found,) = [value for key, value in kept.items() if key.startswith(name)]
        assert not np.array_equal(found, variable.numpy()), name
    assert len(kept) == 14


TWO = (" Barks digs howls wags\n", "purrs meows naps hunts")


def test_its_result_is_evaluated_used_and_exported(trained, parts, tmp_path, capsys):
    import tensorflow as tf

    run = str(trained.parent / "run")
    assert main(["evaluate", run, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["metrics"]
    assert figures["accuracy"] == record(trained)["final"]["test_accuracy"]
    (tmp_path / "new.tsv").write_text("\n".join(["what", *map(str.strip, TWO)]) + "\n")
    assert main(["predict", run, "--json", str(tmp_path / "new.tsv")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["label"] for one in found] == ["dog", "cat"]
    assert main(["export", run, "--to", str(tmp_path / "model")]) == 0
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["preprocessor_digest"] == record(trained)["preprocessor_digest"]
    away = parts.before.rename(tmp_path / "away")  # the export reads no file of the preprocessor's
    try:
        served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
        labels = served(texts=tf.constant(TWO))["label"].numpy()
    finally:
        away.rename(parts.before)
    assert [label.decode() for label in labels] == ["dog", "cat"]


def test_two_devices_have_the_losses_of_one(trained, parts, tmp_path):
    # In a process of its own: devices are made once.
    two = {"cluster.strategy": "mirrored", "cluster.replicas_per_rank": 2}
    spec = spec_of(tmp_path, parts, **two)
    run_here(spec, tmp_path / "cache", alone=True)
    assert_equal_losses(tmp_path / "run", trained.parent / "run")


def test_another_preprocessor_is_refused(trained, parts, tmp_path, capsys):
    """By a run that goes on, and by those who use its result."""
    copy = shutil.copytree(parts.before, tmp_path / "before")
    one = {"name": "one", "epochs": 1, "learning_rate": 0.01}
    other = {"preprocessor": f"hub:{copy}", "output": "pooled_output"}
    changes = {"training.phases": [one], "data.test": None}
    spec = spec_of(tmp_path, parts, other, **changes)
    run_here(spec, tmp_path / "cache")
    (vocabulary,) = (copy / "assets").iterdir()
    vocabulary.write_text(vocabulary.read_text().replace("naps", "maps"))
    run = str(tmp_path / "run")
    more = ("run", str(spec), "--run-dir", run, "-o", "training.phases.0.epochs=2")
    for used in (more, ("evaluate", run, "--data", str(parts.data / "test.tsv"))):
        assert main(used) == 4
        said = capsys.readouterr().err
        assert "backbone.preprocessor: the preprocessor is not the one that the run pins" in said
    copy.chmod(0o777)
    assert main(["inspect", str(spec), "--backbone"]) == 4
    assert "backbone.preprocessor" in capsys.readouterr().err


def test_features_go_by_the_length_of_their_texts(parts, tmp_path):
    two = [{"name": "one", "epochs": 2, "learning_rate": 0.01}]
    keys = []
    for more in ({}, {"max_length": 12}):
        backbone = {"preprocessor": f"hub:{parts.before}", "output": "sequence_output", **more}
        changes = {"training.phases": two, "head.pooling": "average", "data.test": None}
        folder = tmp_path / str(len(keys))
        folder.mkdir()
        spec = spec_of(folder, parts, backbone, **changes)
        assert "examples computed" in run_here(spec, tmp_path / "cache")
        keys.append(record(spec)["feature_cache"]["train"]["keys"])
        assert record(spec)["feature_cache"]["train"]["shape"] == [32]
    assert keys[0] != keys[1]


def test_plan_and_inspect_show_it(parts, tmp_path, capsys):
    spec = spec_of(tmp_path, parts)
    assert main(["plan", str(spec)]) == 0
    said = capsys.readouterr().out
    assert "preprocessor bytes" in said and f"hub:{parts.before}" in said
    assert main(["inspect", str(spec), "--backbone", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["preprocessor"] == f"hub:{parts.before}"
    assert found["tokens"].startswith("input_mask int32 [batch, 16], input_type_ids")
    assert found["takes"] == ["string [batch]"] and found["gives"] == "float32 [batch, 32]"
    names = [block["name"] for block in found["blocks"]]
    assert names == ["embeddings", "layer_0", "layer_1", "pooler"]
    assert main(["inspect", str(parts.bert), "--json"]) == 0
    bare = json.loads(capsys.readouterr().out)
    assert bare["takes"][0].startswith("input_mask int32 [batch, any], input_type_ids")
    assert (
        bare["gives"]
        == "pooled_output float32 [batch, 32], sequence_output float32 [batch, 32, 32]"
    )
    assert bare["blocks"] == found["blocks"] and bare["flops"] > 0
    before = ["-o", f"backbone.preprocessor=hub:{parts.before}"]
    output = ["-o", "backbone.output=sequence_output"]
    assert main(["inspect", f"hub:{parts.bert}", *before, *output]) == 0
    said = capsys.readouterr().out
    assert f"before      hub:{parts.before}, of digest" in said
    assert "gives       float32 [batch, 16, 32]" in said
