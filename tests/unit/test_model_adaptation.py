"""Losses between domains held against plain numpy, and batch-norm statistics of another domain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")
hub = pytest.importorskip("tensorflow_hub")

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.model.adaptation.alignment import (  # noqa: E402
    LOSS,
    Adversarial,
    Matching,
    features_of,
    reversed_gradient,
)
from harness.model.adaptation.distances import coral, mmd  # noqa: E402
from harness.model.draws import Draws, Dropout  # noqa: E402
from harness.model.pooling import Pooling  # noqa: E402
from harness.spec import load_spec  # noqa: E402

WIDTH = 5


def rows(count: int, seed: int, offset: float = 0.0, scale: float = 1.0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(offset, scale, (count, WIDTH))
    return drawn.astype(np.float32)


def mask_of(count: int, *out: int) -> np.ndarray:
    mask = np.ones(count, np.float32)
    mask[list(out)] = 0
    return mask


def numpy_coral(source: np.ndarray, target: np.ndarray) -> float:
    apart = np.cov(source.astype(float), rowvar=False) - np.cov(target.astype(float), rowvar=False)
    return float((apart**2).sum() / (4 * WIDTH**2))


def numpy_mmd(source: np.ndarray, target: np.ndarray) -> float:
    both = np.concatenate([source, target]).astype(float)
    apart = ((both[:, None] - both[None]) ** 2).sum(-1)
    n, m = len(source), len(target)
    typical = apart.sum() / ((n + m) * (n + m - 1))
    kernel = np.mean([np.exp(-apart / (typical * w)) for w in (0.25, 0.5, 1, 2, 4)], axis=0)
    return float(kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean())


@pytest.mark.parametrize(("ours", "theirs"), [(coral, numpy_coral), (mmd, numpy_mmd)])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_a_distance_is_the_formula_over_the_rows_that_count(
    ours: Any, theirs: Any, offset: float
) -> None:
    source, target = rows(7, 1, offset), rows(6, 2, offset + 0.5, 2.0)
    masks = mask_of(7, 0, 5), mask_of(6, 3)
    found = ours(source, target, *masks)
    wanted = theirs(source[masks[0] > 0], target[masks[1] > 0])
    assert wanted > 0.01
    np.testing.assert_allclose(found, wanted, rtol=2e-4)
    # What does not count may be anything.
    source[0], target[3] = 1e3, -1e3
    np.testing.assert_allclose(ours(source, target, *masks), wanted, rtol=2e-4)


@pytest.mark.parametrize("distance", [coral, mmd])
def test_a_distance_of_equals_is_nothing_and_so_is_that_of_nothing(distance: Any) -> None:
    same = rows(8, 3)
    all_of = mask_of(8)
    assert float(distance(same, same, all_of, all_of)) == pytest.approx(0, abs=1e-6)
    empty = np.zeros(8, np.float32)
    with tf.GradientTape() as tape:
        inputs = tf.constant(same)
        tape.watch(inputs)
        found = distance(inputs, rows(8, 4), all_of, empty)
    assert float(found) == 0
    np.testing.assert_array_equal(tape.gradient(found, inputs), np.zeros_like(same))


@pytest.mark.parametrize("distance", [coral, mmd])
def test_its_gradient_brings_the_domains_together(distance: Any) -> None:
    source, target = tf.constant(rows(32, 1)), tf.Variable(rows(32, 2, 0.5, 2.0))
    masks = mask_of(32), mask_of(32)
    before = float(distance(source, target, *masks))
    for _ in range(60):
        with tf.GradientTape() as tape:
            found = distance(source, target, *masks)
        target.assign_sub(20.0 * tape.gradient(found, target))
    assert float(distance(source, target, *masks)) < 0.2 * before


def test_the_gradient_is_turned_round() -> None:
    inputs = tf.constant(rows(3, 1))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(3.0 * reversed_gradient(inputs, tf.constant(0.25)))
    np.testing.assert_allclose(loss, 3.0 * inputs.numpy().sum(), rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, inputs), np.full(inputs.shape, -0.75))


def model_of(draws: Draws, rate: float = 0.0) -> tuple[Any, Any]:
    inputs = tf_keras.Input((WIDTH,))
    features = tf_keras.layers.Dense(4, "tanh", name="features")(inputs)
    return inputs, Dropout(rate, draws, 0)(features) if rate else features


def batch(source: int = 6, target: int = 6) -> dict[str, Any]:
    return {
        "image": tf.constant(rows(6, 5)),
        "mask": tf.constant(mask_of(6, *range(source, 6))),
        "target": tf.constant(rows(6, 6, 1.0)),
        "target_mask": tf.constant(mask_of(6, *range(target, 6))),
    }


def adversarial(weight: float = 0.5) -> Adversarial:
    tf_keras.utils.set_random_seed(1)
    draws = Draws(3, SingleDevice())
    inputs, features = model_of(draws)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(2)(features))
    return Adversarial(model, features, draws, weight, seed=3)


def gradients(one: Adversarial, given: dict[str, Any], progress: float) -> tuple[Any, list[Any]]:
    """Of the domain loss: for the features, and for the classifier."""
    _, features = one.both(given)
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = one.terms(features, given, tf.constant(progress)).loss
    found = tape.gradient(loss, [features, *one.variables])
    return found[0].numpy(), [each.numpy() for each in found[1:]]


@pytest.mark.parametrize("progress", [0.0, 0.1, 1.0])
def test_the_classifier_learns_and_the_features_unlearn_by_the_schedule(progress: float) -> None:
    one, given = adversarial(), batch(source=4)
    features, classifier = gradients(one, given, progress)
    # The plain gradient, by a classifier whose features are not turned round.
    _, inputs = one.both(given)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        logits = one._classify(inputs)[:, 0]
        truth = tf.constant([0.0] * 6 + [1.0] * 6)
        each = tf.nn.sigmoid_cross_entropy_with_logits(truth, logits)
        loss = 0.5 * (tf.reduce_mean(each[:4]) + tf.reduce_mean(each[6:]))
    plain = [g.numpy() for g in tape.gradient(loss, [inputs, *one.variables])]
    strength = 0.5 * (2 / (1 + np.exp(-10 * progress)) - 1)
    np.testing.assert_allclose(features, -strength * plain[0], rtol=1e-5, atol=1e-8)
    for found, wanted in zip(classifier, plain[1:], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-8)
    terms = one.terms(inputs, given, tf.constant(progress))
    assert float(terms.count) == 4
    figures = one.figures({name: value.numpy() for name, value in terms.sums.items()})
    assert figures["adaptation_loss"] == pytest.approx(float(loss), rel=1e-5)
    right = (logits.numpy() > 0) == (truth.numpy() > 0.5)
    assert figures["domain_accuracy"] == pytest.approx((right[:4].mean() + right[6:].mean()) / 2)


def test_without_a_domain_there_is_no_loss_and_no_figure() -> None:
    one, given = adversarial(), batch(target=0)
    features, classifier = gradients(one, given, 0.5)
    assert not features.any() and not any(each.any() for each in classifier)
    terms = one.terms(one.both(given)[1], given, tf.constant(0.5))
    assert one.figures({name: value.numpy() for name, value in terms.sums.items()}) == {}


def test_one_pass_gives_the_source_the_draws_that_it_has_alone() -> None:
    draws = Draws(3, SingleDevice())
    inputs, features = model_of(draws, rate=0.5)
    model = tf_keras.Model(inputs, features)
    given = batch()
    given["target"] = given["image"]
    alone = model(given["image"], training=True)
    logits, both = Matching(model, features, draws, coral, 2.0).both(given)
    np.testing.assert_array_equal(logits, alone)
    np.testing.assert_array_equal(both[:6], alone)
    assert not np.array_equal(both[6:], alone), "the target has draws of its own"


def test_a_match_is_weighted_and_summed_over_steps() -> None:
    draws = Draws(3, SingleDevice())
    inputs, features = model_of(draws)
    one, given = Matching(tf_keras.Model(inputs, features), features, draws, coral, 2.0), batch()
    _, found = one.both(given)
    distance = float(coral(found[:6], found[6:], given["mask"], given["target_mask"]))
    terms = one.terms(found, given, tf.constant(0.0))
    assert float(terms.loss) == pytest.approx(2.0 * distance)
    assert float(terms.sums[LOSS]) == pytest.approx(distance)
    twice = {name: 2 * value.numpy() for name, value in terms.sums.items()}
    assert one.figures(twice) == {"adaptation_loss": pytest.approx(distance)}


def test_features_are_those_after_the_pooling() -> None:
    """Of a backbone that gives several places of an example."""
    pictures = tf_keras.Input((4, 4, 3))
    maps = tf_keras.layers.Conv2D(5, 3, name="backbone")(pictures)
    pooled = Pooling("average", name="pooling")(maps)
    model = tf_keras.Model(pictures, tf_keras.layers.Dense(2)(pooled))
    for pooling, shape in ((None, (None, 2, 2, 5)), ("average", (None, 5))):
        spec = load_spec(
            {
                "harness_spec": 1,
                "name": "x",
                "backbone": {"handle": "hub:/m"},
                "data": {"train": "."},
                "head": {"pooling": pooling},
            }
        ).spec
        assert features_of(spec, model).shape == shape
