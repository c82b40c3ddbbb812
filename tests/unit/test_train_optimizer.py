"""Optimizers do what the spec says; learning rates follow their formulas."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import tf_keras  # noqa: E402

from harness.spec import load_spec  # noqa: E402
from harness.train.optimizer import _EXCLUDE, learning_rate, make_optimizer  # noqa: E402
from harness.train.plan import Phase  # noqa: E402


def spec(optimizer: dict, **training):
    return load_spec(
        {
            "harness_spec": 1,
            "name": "x",
            "backbone": {"handle": "hub:/x"},
            "data": {"train": "/x"},
            "training": {"optimizer": optimizer, **training},
        }
    ).spec


def one_step(optimizer: dict, gradients: dict[str, list[float]], rate: float = 0.1):
    made = make_optimizer(spec(optimizer))
    variables = [tf.Variable([1.0, 2.0], name=name) for name in gradients]
    made.build(variables)
    made.learning_rate.assign(rate)
    made.apply_gradients(zip(map(tf.constant, gradients.values()), variables, strict=True))
    return {name: v.numpy() for name, v in zip(gradients, variables, strict=True)}


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("more", [{}, {"weight_decay": 0.1, "clip_norm": 1.0}])
def test_every_optimizer_moves_against_its_gradient(name, more):
    after = one_step({"name": name, **more}, {"kernel": [1.0, -1.0]})["kernel"]
    assert after[0] < 1.0
    assert np.isfinite(after).all()


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_momentum_counts_from_the_second_step(momentum):
    options = {"name": "sgd"} if momentum is None else {"name": "sgd", "momentum": momentum}
    made = make_optimizer(spec(options))
    variable = tf.Variable([0.0])
    made.build([variable])
    made.learning_rate.assign(1.0)
    for _ in range(2):
        made.apply_gradients([(tf.constant([1.0]), variable)])
    assert variable.numpy()[0] == pytest.approx(-2.0 - (momentum or 0.0))


def test_gradients_are_clipped_by_their_norm_over_all_variables():
    after = one_step({"name": "sgd", "clip_norm": 1.0}, {"a": [3.0, 0.0], "b": [0.0, 4.0]}, 1.0)
    np.testing.assert_allclose(after["a"], [1.0 - 0.6, 2.0], rtol=1e-6)
    np.testing.assert_allclose(after["b"], [1.0, 2.0 - 0.8], rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_weight_decay_is_decoupled_and_leaves_bias_and_norm_alone(name):
    options = {"name": name, "weight_decay": 0.5}
    names = ("dense/kernel", "dense/bias", "layer_norm/gamma", "layer_norm/beta")
    after = one_step(options, {name: [0.0, 0.0] for name in names})
    np.testing.assert_allclose(after["dense/kernel"], [0.95, 1.9], rtol=1e-6)
    for name in names[1:]:
        np.testing.assert_array_equal(after[name], [1.0, 2.0])
    everything = one_step({**options, "exclude": []}, {name: [0.0, 0.0] for name in names})
    np.testing.assert_allclose(everything["dense/bias"], [0.95, 1.9], rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "step", "plateau"])
@pytest.mark.parametrize("warmup", [0, 4])
def test_learning_rates(schedule, warmup):
    phase = Phase(0, "p", 5, 4, 32, 0.5, warmup, schedule, "last", drop_steps=6, drop_factor=0.2)
    found = [float(learning_rate(phase, tf.constant(step, tf.int64))) for step in range(20)]
    for step, rate in enumerate(found):
        share = (step - warmup) / (20 - warmup)
        falls = {
            "constant": 1.0,
            "cosine": 0.5 * (1 + math.cos(math.pi * share)),
            "linear": 1 - share,
            "step": 0.2 ** (step // 6),
            "plateau": 1.0,
        }[schedule]
        wanted = 0.5 * (step + 1) / warmup if step < warmup else 0.5 * falls
        assert rate == pytest.approx(wanted, rel=1e-5)
    assert max(found) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "bias", "norm"),
    [
        ("head_output/kernel:0", False, False),
        ("head_output/bias:0", True, False),
        ("bn_Conv1/gamma:0", False, True),
        ("bert/layer_0/LayerNorm/beta:0", True, True),
        ("encoder.layer.0.LayerNorm.weight:0", False, True),
        ("encoder.layer.0.LayerNorm.bias:0", True, True),
        ("blocks.3.norm1.weight:0", False, True),
        ("layer1.0.bn2.weight:0", False, True),
        ("normalization/mean:0", False, True),
        ("normal_conv_1_1/kernel:0", False, False),  # a cell of NASNet
        ("separable_conv_1_normal_left1_1/depthwise_kernel:0", False, False),
        ("subnet/kernel:0", False, False),
        ("bias_layer/kernel:0", False, False),
    ],
)
def test_what_is_a_bias_and_what_a_norm(name, bias, norm):
    found = {kind: bool(re.search(pattern, name)) for kind, pattern in _EXCLUDE.items()}
    assert found == {"bias": bias, "norm": norm}


@pytest.mark.parametrize("name", ["MobileNetV3Small", "NASNetMobile", "EfficientNetB0", "ResNet50"])
def test_no_weights_of_convolutions_go_without_decay(name):
    """Over all variables of an application: a norm's, or by their own name a bias, gamma, beta."""
    model = getattr(tf_keras.applications, name)(weights=None, include_top=False)
    for layer in model.layers:
        is_norm = isinstance(layer, tf_keras.layers.BatchNormalization)
        for variable in layer.trainable_weights:
            left_out = any(re.search(pattern, variable.name) for pattern in _EXCLUDE.values())
            assert left_out == (is_norm or "bias" in variable.name.rpartition("/")[2]), (
                variable.name
            )


def test_averages_of_weights_are_those_of_tensorflow() -> None:
    """By its formula with ``num_updates``, also of what is unfrozen late."""
    variables = [tf.Variable([1.0, 2.0], name=name) for name in ("early", "late")]
    optimizer = make_optimizer(spec({"name": "sgd"}, ema={"decay": 0.3}))
    optimizer.build(variables)
    optimizer.learning_rate = 0.5
    wanted = [v.numpy() for v in variables]
    for step in range(6):
        trained = variables[: 1 if step < 3 else 2]
        optimizer.set_parts({}, {1: 3}, variables)
        optimizer.apply_gradients([(tf.ones(2), v) for v in trained])
        for at, variable in enumerate(trained):
            done = step - (3 if at else 0)
            kept = min(0.3, (1 + done) / (10 + done))
            wanted[at] = kept * wanted[at] + (1 - kept) * variable.numpy()
    for variable, average in zip(variables, wanted, strict=True):
        np.testing.assert_allclose(optimizer.average_of(variable).numpy(), average, rtol=1e-6)
    optimizer.forget()
    np.testing.assert_allclose(optimizer.average_of(variables[0]).numpy(), wanted[0], rtol=1e-6)


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_an_l2_penalty_is_that_of_keras(name, clip) -> None:
    """Of kernels and not of biases, a part of what is clipped, and with each optimizer."""
    data = np.random.default_rng(2).normal(size=(16, 5)).astype(np.float32)
    found = []
    for own in (True, False):
        tf_keras.utils.set_random_seed(3)
        penalty = None if own else tf_keras.regularizers.L2(0.07)
        layers = [
            tf_keras.layers.Dense(n, kernel_regularizer=penalty, name=f"d{n}") for n in (4, 1)
        ]
        model = tf_keras.Sequential([tf_keras.Input((5,)), *layers])
        chosen = {"name": name, "clip_norm": clip, "l2": 0.07 if own else 0.0}
        optimizer = make_optimizer(spec(chosen))
        optimizer.build(model.trainable_variables)
        optimizer.learning_rate = 0.1
        for _ in range(5):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(data))) + sum(model.losses, 0.0)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        found.append([v.numpy() for v in model.trainable_variables])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_an_l2_penalty_of_all_is_of_biases_too() -> None:
    optimizer = make_optimizer(spec({"name": "sgd", "l2": 0.5, "exclude": []}))
    bias = tf.Variable([2.0], name="head/bias")
    optimizer.build([bias])
    optimizer.learning_rate = 0.1
    optimizer.apply_gradients([(tf.zeros([1]), bias)])
    np.testing.assert_allclose(bias.numpy(), [2.0 - 0.1 * 2 * 0.5 * 2.0])
