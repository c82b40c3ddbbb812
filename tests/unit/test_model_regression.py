"""Numbers: loss, figures and predictions, against plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from harness.data.regression import Scaling
from harness.model.regression import Regression, in_units
from harness.train.step import _losses

NAN = math.nan

SCALING = Scaling((100.0, -2.0, 0.0), (10.0, 0.5, 3.0))


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    targets = draw.normal(size=(40, 3)).astype(np.float32)
    targets[draw.random((40, 3)) < 0.3] = NAN
    outputs = draw.normal(size=(40, 3)).astype(np.float32)
    return targets, outputs, (draw.random(40) < 0.8).astype(np.float32), draw.random(40) + 0.5


def test_the_loss_is_the_mean_over_what_is_known_and_so_is_its_gradient():
    targets, outputs, _, _ = drawn(1)
    targets[0] = NAN
    task, given = Regression(("a", "b", "c"), SCALING), tf.constant(outputs)
    with tf.GradientTape() as tape:
        tape.watch(given)
        losses = task.losses(tf.constant(targets), given, True)
    slope = tape.gradient(losses, given).numpy()
    known = ~np.isnan(targets)
    count = np.maximum(known.sum(1, keepdims=True), 1)
    error = np.where(known, outputs - np.nan_to_num(targets), 0)
    np.testing.assert_allclose(losses.numpy(), (error**2 / count).sum(1), rtol=1e-5)
    np.testing.assert_allclose(slope, 2 * error / count, rtol=1e-5)
    assert losses[0] == 0 and known.all(1).any() and not known.all(1).all()


def test_figures_add_up_over_parts_and_agree_with_numpy():
    targets, outputs, mask, weight = drawn(2)
    measure = {"off": lambda t, p: tf.reduce_sum(tf.where(t == t, abs(p - t), 0.0), -1)}
    task = Regression(("a", "b", "c"), SCALING, metrics=measure)
    losses = task.losses(tf.constant(targets), tf.constant(outputs), False).numpy()
    sums = task.sums.zeros()
    assert tuple(sums) == tuple(task.sums.names())
    for part in (slice(0, 7), slice(7, 40)):
        given = (targets, outputs, losses, mask, weight.astype(np.float32))
        more = task.sums.update(*(tf.constant(each[part]) for each in given))
        sums = {name: sums[name] + more[name].numpy() for name in sums}
    found = task.sums.result(sums)
    assert sorted(found) == sorted(task.sums.figure_names())
    mean, std = np.array(SCALING.mean), np.array(SCALING.std)
    truth, said = targets * std + mean, outputs * std + mean
    each = {"mae": [], "rmse": [], "r2": []}
    for at in range(3):
        known = ~np.isnan(targets[:, at]) & (mask > 0)
        t, error = truth[known, at], (said - truth)[known, at]
        each["mae"].append(np.abs(error).mean())
        each["rmse"].append(math.sqrt((error**2).mean()))
        each["r2"].append(1 - (error**2).sum() / ((t - t.mean()) ** 2).sum())
    for name, values in each.items():
        assert found[name] == pytest.approx(np.mean(values), rel=1e-5)
        for target, value in zip("abc", values, strict=True):
            assert found[f"{target}_{name}"] == pytest.approx(value, rel=1e-5)
    assert found["loss"] == pytest.approx((losses * mask * weight).sum() / mask.sum(), rel=1e-5)
    off = np.nan_to_num(np.abs(said - truth)).sum(1)
    assert found["off"] == pytest.approx((off * mask).sum() / mask.sum(), rel=1e-4)


def test_a_target_that_is_known_of_no_example_has_no_figure_and_equal_ones_have_no_spread():
    task = Regression(("a", "b"), Scaling((0.0, 1.0), (1.0, 2.0)))

    def of(targets, outputs):
        given = [tf.constant(each, tf.float32) for each in (targets, outputs)]
        rest = [tf.ones(len(targets))] * 2
        sums = task.sums.update(*given, task.losses(*given, False), *rest)
        return task.sums.result({name: value.numpy() for name, value in sums.items()})

    found = of([[0.3, NAN], [0.3, NAN]], [[0.0, 5.0], [0.6, 5.0]])
    assert "b_mae" not in found and found["mae"] == found["a_mae"] == pytest.approx(0.3)
    assert found["r2"] == 0.0
    assert of([[0.3, NAN]], [[0.3, 0.0]])["r2"] == 1.0
    assert set(of([[NAN, NAN]], [[0.3, 0.0]])) == {"loss"}
    assert task.sums.result(task.sums.zeros()) == {}
    one = Regression(("a",), Scaling((0.0,), (1.0,)))
    assert tuple(one.sums.figure_names()) == ("loss", "mae", "rmse", "r2")


def test_what_the_model_says_is_in_the_units_of_the_targets():
    said = Regression(("a", "b", "c"), SCALING).probabilities(tf.constant([[0.0, 2.0, -1.0]]))
    assert said.numpy().tolist() == [[100.0, -1.0, -3.0]]
    assert np.isnan(in_units(tf.constant([[NAN, 0.0, 0.0]]), SCALING)[0, 0])


def test_the_gradient_of_a_mixed_example_is_that_of_the_mixed_target():
    task = Regression(("a", "b"), Scaling((0.0, 0.0), (1.0, 1.0)))
    draw = np.random.default_rng(3)
    own, other, outputs = (tf.constant(draw.normal(size=(6, 2)), tf.float32) for _ in range(3))
    share = tf.constant(draw.uniform(0.5, 1, 6), tf.float32)
    mixed = share[:, None] * own + (1 - share[:, None]) * other
    batch = {"label": own, "partner_label": other, "share": share}
    batch |= {"weight": tf.ones(6), "partner_weight": tf.ones(6)}
    slopes = []
    for found in (batch, {"label": mixed, "weight": tf.ones(6)}):
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            losses, weight = _losses(task, found, outputs)
            total = tf.reduce_sum(losses * weight)
        slopes.append(tape.gradient(total, outputs).numpy())
    np.testing.assert_allclose(*slopes, rtol=1e-4, atol=1e-6)
