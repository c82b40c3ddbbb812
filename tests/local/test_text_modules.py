"""Two modules put together: what fits, and what is said where it does not, before any training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.errors import DataError
from harness.spec import Trust, load_spec

WORDS = ("purrs", "meows", "naps", "hunts", "the", "a")
OTHER = {
    "input_word_ids": "input_ids",
    "input_mask": "attention_mask",
    "input_type_ids": "token_type_ids",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder of modules: two preprocessors and three encoders that are the same BERT."""
    import tensorflow as tf

    from tests.local.bert_helpers import OTHER_NAMES, write_bert, write_preprocessor

    root, tokens = tmp_path_factory.mktemp("modules"), 4 + len(WORDS)
    write_preprocessor(root / "before", WORDS)
    write_preprocessor(root / "one_length", WORDS, halves=False)
    write_preprocessor(root / "no_mask", WORDS, names=("ids", "other", "types"))
    write_preprocessor(root / "numbers", WORDS, takes=tf.float32)
    write_bert(root / "bert", tokens)
    write_bert(root / "fewer", tokens - 2)
    write_bert(root / "fixed", tokens, length=24)
    write_bert(root / "named", tokens, names=("ids", "other", "types"))
    write_bert(root / "signed", tokens, names=OTHER_NAMES, dtype=tf.int64, callable_=False)
    return root


def load(made: Path, bert: str, before: str | None = "before", pooling=None, **backbone):
    from harness.model.backbone import Pinned
    from harness.model.encoder import load_module

    both = {} if before is None else {"preprocessor": f"hub:{made / before}"}
    least = {
        "harness_spec": 1,
        "name": "x",
        "task": "text_classification",
        "backbone": {"handle": f"hub:{made / bert}", **both, **backbone},
        "data": {"train": "."},
    }
    return load_module(load_spec(least).spec.backbone, pooling, Pinned(), Trust())


def features(found, *texts: str) -> np.ndarray:
    import tensorflow as tf

    return found.layer(tf.constant(texts)).numpy()


POOLED = {"output": "pooled_output"}
SIGNED = {**POOLED, "signature": "serving_default", "inputs": OTHER}


def test_names_types_and_lengths_do_not_change_what_it_gives(made):
    texts = ("Purrs and naps", "the")
    wanted = features(load(made, "bert", **POOLED), *texts)
    assert wanted.shape == (2, 32)
    signed = load(made, "signed", **SIGNED)
    shorter = load(made, "bert", **POOLED, max_length=6)
    for found in (signed, load(made, "fixed", **POOLED, max_length=24), shorter):
        np.testing.assert_allclose(features(found, *texts), wanted, atol=1e-6)
    assert signed.trainable() == [] and len(shorter.trainable()) == 14
    assert signed.parameters() == shorter.parameters() > 0


def test_a_text_is_cut_to_max_length(made):
    cut = load(made, "bert", **POOLED, max_length=4)
    both = features(cut, "the naps hunts purrs", "the naps")
    np.testing.assert_allclose(both[0], both[1], atol=1e-6)
    long = load(made, "bert", **POOLED, max_length=40)  # the whole of its table of positions
    assert not np.allclose(*features(long, "the naps hunts purrs", "the naps"))


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_pooling_leaves_out_what_fills_a_text_up(made, pooling):
    sequence = load(made, "bert", output="sequence_output", pooling=pooling, max_length=8)
    longer = load(made, "bert", output="sequence_output", pooling=pooling, max_length=30)
    texts = ("the naps", "purrs hunts a meows")
    np.testing.assert_allclose(features(sequence, *texts), features(longer, *texts), atol=1e-6)


def test_a_model_of_keras_has_one_too(made, tmp_path):
    import tensorflow as tf
    import tf_keras

    from harness.model.backbone import Pinned
    from harness.model.encoder import load_module
    from harness.spec.models_model import Backbone

    ids, mask = (tf_keras.Input((None,), dtype=tf.int32, name=name) for name in ("ids", "mask"))
    x = tf_keras.layers.Embedding(4 + len(WORDS), 8)(ids)
    x = tf_keras.layers.Dense(8, name="last")(x)
    tf_keras.Model([ids, mask], tf_keras.layers.Multiply()([x, x])).save(tmp_path / "own.keras")
    wanted = load_spec(
        {
            "harness_spec": 1,
            "name": "x",
            "task": "text_classification",
            "backbone": {
                "handle": f"model:{tmp_path / 'own.keras'}",
                "preprocessor": f"hub:{made / 'before'}",
                "inputs": {"input_word_ids": "ids", "input_mask": "mask"},
                "output": "last",
            },
            "data": {"train": "."},
        }
    ).spec.backbone
    assert isinstance(wanted, Backbone)
    found = load_module(wanted, "average", Pinned(), Trust())
    assert features(found, "the naps", "a").shape == (2, 8)
    assert len(found.trainable()) == 3


@pytest.mark.parametrize(
    ("bert", "backbone", "path", "words"),
    [
        ("bert", {"output": "pooled"}, "backbone.output", "allowed: pooled_output float32 [batch"),
        ("bert", {}, "backbone.output", "sequence_output float32 [batch, 16, 32]"),
        ("bert", {"output": "sequence_output"}, "head.pooling", "set head.pooling: average or max"),
        ("bert", {**POOLED, "pooling": "max"}, "head.pooling", "one vector already"),
        ("bert", {**POOLED, "max_length": 400}, "backbone.max_length", "allowed: at most 40"),
        ("bert", {**POOLED, "max_length": 1}, "backbone.max_length", "cannot cut texts"),
        (
            "bert",
            {**POOLED, "before": "one_length", "max_length": 8},
            "backbone.max_length",
            "allowed: 16, or null",
        ),
        ("fixed", POOLED, "backbone.max_length", "set backbone.max_length: 24"),
        ("signed", POOLED, "backbone.handle", "set backbone.signature"),
        ("signed", {**SIGNED, "inputs": None}, "backbone.inputs", "set backbone.inputs: {input_m"),
        ("signed", {**SIGNED, "output": "x"}, "backbone.output", "pooled_output float32"),
        ("fewer", POOLED, "backbone.preprocessor", "has tokens that the backbone does not know"),
        ("bert", {**POOLED, "before": "numbers"}, "backbone.preprocessor", "takes no texts"),
        ("bert", {**POOLED, "before": "bert"}, "backbone.preprocessor", "takes no texts"),
        ("before", POOLED, "backbone.preprocessor", "takes no tensors by name"),
        ("bert", {**POOLED, "before": "nowhere"}, "backbone.preprocessor", "does not exist"),
        (
            "named",
            {"before": "no_mask", "output": "sequence_output", "pooling": "max"},
            "head.pooling",
            "not known which tokens",
        ),
    ],
)
def test_what_does_not_fit_is_said(made, bert, backbone, path, words):
    with pytest.raises(DataError) as caught:
        load(made, bert, **backbone)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert words in str(caught.value)


def test_a_preprocessor_of_the_length_that_is_asked_for_needs_no_halves(made):
    assert load(made, "bert", before="one_length", max_length=16, **POOLED).layer is not None


def test_an_encoder_alone_takes_no_texts(made):
    import tensorflow as tf

    from harness.model.fit import check_fit

    for bert, more in (("bert", {}), ("signed", {**POOLED, "signature": "serving_default"})):
        alone = load(made, bert, before=None, **more)
        with pytest.raises(DataError) as caught:
            check_fit(alone.layer, tf.TensorSpec([], tf.string, "texts"))
        (problem,) = caught.value.problems
        assert problem.path == "backbone.preprocessor"
        assert "int" in problem.got and "set backbone.preprocessor" in problem.action


def test_in_training_mode_it_is_of_one_replica(made):
    """As any SavedModel, whose normalisations are not seen."""
    import tf_keras

    from harness.errors import SpecError
    from harness.model.norm import check_synchronised

    layer = load(made, "bert", **POOLED).layer
    check_synchronised(tf_keras.Sequential([layer]), layer, 1, "x")
    with pytest.raises(SpecError, match="fused inside"):
        check_synchronised(tf_keras.Sequential([layer]), layer, 2, "x")


def test_names_are_unfrozen_inside_the_encoder(made):
    import tensorflow as tf

    from harness.distribute.choose import choose
    from harness.distribute.topology import Topology
    from harness.model.blocks import blocks_of
    from harness.model.unfreeze import unfrozen

    found = load(made, "bert", **POOLED)
    device = choose("single", "cpu", Topology()).distribution
    blocks = blocks_of(found.layer, tf.TensorSpec([], tf.string, "texts"), device)
    assert [block.name for block in blocks] == ["embeddings", "layer_0", "layer_1", "pooler"]
    chosen = unfrozen("layer_0/(query|key)", blocks, found.trainable(), "x")
    assert chosen.blocks == ("layer_0",) and chosen.distance == (2, 2)
