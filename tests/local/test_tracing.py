"""Of what is traced only a user's own parts are rewritten by AutoGraph, and those are."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.tracing import as_written, rewritten
from tests.local.training_helpers import CLASSES, lines, run_here, write_spec

BRANCHES = """
import tensorflow as tf
import tf_keras
from harness.model.task import Classification
from harness.plugins import register

class Flips(tf_keras.layers.Layer):
    def call(self, x):
        if tf.reduce_sum(x) < -1e9:
            x = -x
        return x

@register("head", "branching")
def branching(features, outputs, draws):
    return tf_keras.layers.Dense(outputs)(Flips()(features))

@register("metric", "even")
def even(labels, probabilities):
    if tf.size(labels) > 0:
        found = tf.cast(labels % 2 == 0, tf.float32)
    else:
        found = tf.zeros_like(labels, tf.float32)
    return found

@register("task", "branching_task")
class Branching(Classification):
    def losses(self, labels, logits, training):
        if tf.reduce_max(labels) > 1000:
            logits = 2 * logits
        return super(Branching, self).losses(labels, logits, training)
"""


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the functions that AutoGraph rewrites."""
    from tensorflow.python.autograph.impl import api

    found: set[str] = set()
    rewrite = api._convert_actual

    def watched(entity, context):
        found.add(f"{entity.__module__}.{entity.__qualname__}")
        return rewrite(entity, context)

    monkeypatch.setattr(api, "_convert_actual", watched)
    return found


def make(folder: Path, backbone: Path, write_pictures, **changes) -> Path:
    write_pictures(folder / "data" / "train", CLASSES, 8, 16)
    write_pictures(folder / "data" / "test", CLASSES, 4, 16)
    (folder / "branches.py").write_text(BRANCHES)
    phases = [{"name": "one", "epochs": 2, "learning_rate": 0.01}]
    return write_spec(folder, backbone, folder / "data", **{"training.phases": phases, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training.accumulate": 2},
        {"training.feature_cache": "auto", "data.augment": {}},
        {"data.augment.mixup": 0.2},
    ],
    ids=["plain", "accumulate", "features", "mixup"],
)
def test_nothing_of_ours_is_rewritten(
    changes, tmp_path, tiny_backbone, write_pictures, converted
) -> None:
    """Neither of the training, of the data, nor of Hub's layer."""
    run_here(make(tmp_path, tiny_backbone, write_pictures, **changes), tmp_path / "cache")
    assert converted == set()


def test_parts_of_the_user_are(tmp_path, tiny_backbone, write_pictures, converted) -> None:
    spec = make(
        tmp_path,
        tiny_backbone,
        write_pictures,
        **{
            "plugins": [str(tmp_path / "branches.py")],
            "head": {"plugin": "plugin:branching"},
            "task": "plugin:branching_task",
            "training.metrics": [{"plugin": "plugin:even"}],
            "training.deterministic": False,
        },
    )
    run_here(spec, tmp_path / "cache")
    assert {name.rpartition(".")[2] for name in converted} == {"call", "even", "losses"}
    assert {"even", "val_even"} & set().union(*lines(spec.parent / "run" / "metrics.jsonl"))


def test_a_marked_function_calls_the_users_as_keras_does() -> None:
    import tensorflow as tf

    def of_the_user(x):
        if x > 0:  # noqa: SIM108
            y = x
        else:
            y = -x
        return y

    @tf.function
    @as_written
    def ours(x):
        return rewritten(of_the_user)(x)

    @tf.function
    @as_written
    def not_rewritten(x):
        return of_the_user(x)

    assert [int(ours(tf.constant(number))) for number in (3, -4)] == [3, 4]
    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        not_rewritten(tf.constant(1))
    assert rewritten(of_the_user)(-2) == 2
