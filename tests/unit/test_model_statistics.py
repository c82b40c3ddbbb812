"""Statistics of batch normalisation, worked out anew on a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")
hub = pytest.importorskip("tensorflow_hub")

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.errors import DataError, SpecError  # noqa: E402
from harness.model.adaptation.fused import Fused  # noqa: E402
from harness.model.adaptation.statistics import check_norms, estimate, norms_of  # noqa: E402
from harness.model.backbone import Backbone  # noqa: E402
from harness.model.norm import SyncBatchNorm  # noqa: E402
from harness.model.pretrained import Pretrained  # noqa: E402

WIDTH = 5


def drawn() -> np.ndarray:
    """Examples of a target, float32 [96, WIDTH]."""
    return np.random.default_rng(7).normal(3.0, 2.0, (96, WIDTH)).astype(np.float32)


def normed(kind: str) -> Any:
    """Two batch normalisations and a dropout between them."""
    tf_keras.utils.set_random_seed(4)

    def norm(name: str) -> Any:
        if kind == "ours":
            return SyncBatchNorm(SingleDevice(), name=name)
        return tf_keras.layers.BatchNormalization(name=name)

    inputs = tf_keras.Input((WIDTH,))
    x = norm("one")(inputs)
    x = tf_keras.layers.Dropout(0.5)(tf_keras.layers.Dense(3, "relu")(x))
    model = tf_keras.Model(inputs, norm("two")(x))
    model.trainable = False
    return model


@pytest.mark.parametrize("kind", ["ours", "keras"])
def test_statistics_are_those_of_the_examples_and_nothing_else_changes(kind: str) -> None:
    model = normed(kind)
    outer = tf_keras.Sequential([model])
    examples = drawn()
    before = {w.name: w.numpy() for w in model.weights}
    estimate(outer, [tf.constant(examples[at : at + 32]) for at in (0, 32, 64)], SingleDevice())
    one, two = sorted(norms_of(outer), key=lambda layer: str(layer.name))
    np.testing.assert_allclose(one.moving_mean, examples.mean(0), rtol=1e-5)
    np.testing.assert_allclose(one.moving_variance, examples.var(0), rtol=1e-4)
    moved = {w.name for w in model.weights if not np.array_equal(w.numpy(), before[w.name])}
    assert moved == {
        f"{name}/moving_{of}:0" for name in ("one", "two") for of in ("mean", "variance")
    }
    # What the second one sees has no dropout in it, and by the new statistics it is normalised.
    outputs = outer(examples, training=False).numpy()
    alive = two.moving_variance.numpy() > 1e-3
    assert alive.any()
    np.testing.assert_allclose(outputs.mean(0)[alive], 0, atol=0.05)
    np.testing.assert_allclose(outputs.std(0)[alive], 1, atol=0.05)
    # The layers are as they were: frozen, and in inference mode.
    assert (one.momentum, one.trainable, "call" in vars(one)) == (0.99, False, False)
    outer(examples * 9, training=True)
    np.testing.assert_allclose(one.moving_mean, examples.mean(0), rtol=1e-5)


class Inside(tf.train.Checkpoint):
    """A reusable SavedModel with a dense layer between two batch normalisations."""

    def __init__(self, dropout: float = 0.0, norm: bool = True) -> None:
        super().__init__()
        tf_keras.utils.set_random_seed(4)
        inputs = tf_keras.Input((WIDTH,))
        x = tf_keras.layers.BatchNormalization(momentum=0.97)(inputs) if norm else inputs
        x = tf_keras.layers.Dropout(dropout)(tf_keras.layers.Dense(3, "tanh")(x))
        x = tf_keras.layers.BatchNormalization(momentum=0.6)(x) if norm else x
        self.keras = tf_keras.Model(inputs, x)
        self.variables = self.keras.variables
        self.trainable_variables = self.keras.trainable_variables
        self.regularization_losses: list[Any] = []

    def save_in(self, folder: Path) -> str:
        @tf.function
        def call(inputs: Any, training: bool = False) -> Any:
            return self.keras(inputs, training=training)

        self.__call__ = call
        for training in (True, False):
            call.get_concrete_function(tf.TensorSpec([None, WIDTH]), training=training)
        tf.saved_model.save(self, str(folder))
        return str(folder)


def around(folder: Path, **options: Any) -> tuple[Any, Fused]:
    """A model with a SavedModel in it, and its statistics."""
    layer = hub.KerasLayer(Inside(**options).save_in(folder), trainable=False)
    pretrained = Pretrained(layer)
    inputs = tf_keras.Input((WIDTH,))
    model = tf_keras.Model(inputs, pretrained(inputs))
    return model, Fused(Backbone("hub:it", layer, None, folder), pretrained)


TAKES = tf.TensorSpec([WIDTH], tf.float32)


def test_statistics_inside_of_a_saved_model_are_found_by_how_they_move(tmp_path: Path) -> None:
    model, fused = around(tmp_path / "m")
    before = {w.name: w.numpy() for w in model.weights}
    check_norms(model, fused, TAKES, replicas=1)
    assert len(fused.variables) == 4
    for weight in model.weights:
        np.testing.assert_array_equal(weight.numpy(), before[weight.name])
    examples = drawn()
    batches = [tf.constant(examples[at : at + 32]) for at in (0, 32, 64)]
    changed = estimate(model, batches, SingleDevice(), fused)
    assert {id(v) for v in changed} == {id(v) for v in fused.variables}
    mean, variance = changed[0], changed[1]
    np.testing.assert_allclose(mean, examples.mean(0), rtol=1e-4)
    within = np.mean([examples[at : at + 32].var(0) for at in (0, 32, 64)], 0)
    np.testing.assert_allclose(variance, within, rtol=0.04)  # Keras divides by n - 1
    outputs = model(examples, training=False).numpy()
    np.testing.assert_allclose(outputs.mean(0), 0, atol=0.1)
    np.testing.assert_allclose(outputs.std(0), 1, atol=0.1)
    same = {w.name for w in model.weights if np.array_equal(w.numpy(), before[w.name])}
    assert len(model.weights) - len(same) == 4
    again = [v.numpy() for v in changed]
    model(examples * 5, training=True)  # frozen, and in inference mode as before
    for variable, value in zip(changed, again, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_statistics_behind_a_dropout_inside_are_refused(tmp_path: Path) -> None:
    model, fused = around(tmp_path / "m", dropout=0.5)
    with pytest.raises(DataError, match="no dropout before it"):
        check_norms(model, fused, TAKES, replicas=1)


def test_a_model_without_norms_has_nothing_to_adapt(tmp_path: Path) -> None:
    model, fused = around(tmp_path / "m", norm=False)
    with pytest.raises(SpecError, match="the model has none"):
        check_norms(model, fused, TAKES, replicas=1)
    model, fused = around(tmp_path / "n")
    with pytest.raises(SpecError, match="on one replica only, got 2 replicas"):
        check_norms(model, fused, TAKES, replicas=2)
    model = normed("ours")
    check_norms(model, Fused(Backbone("keras:it", model, None, None), Pretrained(model)), TAKES, 2)
