"""Batch normalisation over the global batch, held against Keras on the whole batch at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
hub = pytest.importorskip("tensorflow_hub")
tf_keras = pytest.importorskip("tf_keras")

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.errors import SpecError  # noqa: E402
from harness.model.norm import SyncBatchNorm, check_synchronised  # noqa: E402


def pictures(shape: tuple[int, ...], offset: float = 0.3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(offset, 1.0, shape).astype(np.float32)


def both(shape: tuple[int, ...], **options: Any) -> tuple[Any, Any]:
    """Ours and Keras' layer with the same odd weights."""
    layers = (
        SyncBatchNorm(SingleDevice(), **options),
        # Fused kernels put another variance (times n / (n - 1)) into the moving average.
        tf_keras.layers.BatchNormalization(fused=False, **{"momentum": 0.99, **options}),
    )
    rng = np.random.default_rng(7)
    weights = [rng.uniform(0.5, 1.5, shape[-1:]).astype(np.float32) for _ in range(4)]
    for layer in layers:
        layer.build(tf.TensorShape([None, *shape[1:]]))
        layer.set_weights(weights)
    return layers


def stepped(layer: Any, x: np.ndarray, towards: np.ndarray) -> list[np.ndarray]:
    """Outputs and the gradients of inputs, gamma and beta in a training step."""
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
        loss = tf.reduce_sum(outputs * towards)
    return [
        outputs.numpy(),
        *(g.numpy() for g in tape.gradient(loss, [inputs, *layer.trainable_variables])),
    ]


@pytest.mark.parametrize("shape", [(16, 5), (4, 3, 3, 6), (2, 7, 3), (1, 4)])
def test_equals_keras_on_the_whole_batch(shape: tuple[int, ...]) -> None:
    ours, keras = both(shape)
    towards = pictures(shape, seed=2)
    for step in range(3):
        x = pictures(shape, seed=step)
        got, wanted = stepped(ours, x, towards), stepped(keras, x, towards)
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)
        for one, other in zip(ours.get_weights(), keras.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    x = pictures(shape, seed=9)
    np.testing.assert_allclose(ours(x), keras(x, training=False), rtol=1e-4, atol=1e-5)


def test_names_shapes_and_what_is_trained_are_keras() -> None:
    ours, keras = both((2, 5))

    def named(layer: Any, which: str) -> list[tuple[str, Any]]:
        return [(v.name.split("/")[-1], v.shape) for v in getattr(layer, which)]

    for which in ("trainable_variables", "non_trainable_variables"):
        assert named(ours, which) == named(keras, which)


@pytest.mark.parametrize("offset", [1e2, 1e4, -1e5])
def test_far_from_zero_it_keeps_its_precision_from_the_first_step(offset: float) -> None:
    """Inputs of a spread of 1 around an offset; the moving mean is still 0."""
    x = pictures((64, 3), offset)
    exact = x.astype(np.float64)
    mean, variance = exact.mean(0), exact.var(0)
    layer = SyncBatchNorm(SingleDevice(), momentum=0.5)
    outputs = layer(tf.constant(x), training=True).numpy()
    wanted = (exact - mean) / np.sqrt(variance + 1e-3)
    spacing = float(np.spacing(np.float32(abs(offset))))
    np.testing.assert_allclose(outputs, wanted, rtol=1e-4, atol=4 * spacing)
    moved = layer.moving_variance.numpy()
    np.testing.assert_allclose(moved, 0.5 + 0.5 * variance, rtol=1e-3)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.5 * mean, rtol=1e-6)
    # In inference mode too.
    layer.moving_mean.assign(mean.astype(np.float32))
    layer.moving_variance.assign(variance.astype(np.float32))
    np.testing.assert_allclose(layer(x).numpy(), wanted, rtol=1e-4, atol=4 * spacing)


def test_a_constant_input_gives_beta_and_finite_gradients() -> None:
    ours, _ = both((8, 5))
    found = stepped(ours, np.full((8, 5), 1e3, np.float32), pictures((8, 5)))
    np.testing.assert_allclose(found[0], np.tile(ours.beta.numpy(), (8, 1)), atol=1e-3)
    assert all(np.isfinite(each).all() for each in found)


def test_in_inference_mode_nothing_moves() -> None:
    ours, keras = both((8, 5))
    before = ours.get_weights()
    x = pictures((8, 5), 5.0)
    np.testing.assert_allclose(ours(x, training=False), keras(x, training=False), rtol=1e-5)
    ours.trainable = keras.trainable = False
    np.testing.assert_allclose(ours(x, training=True), keras(x, training=True), rtol=1e-5)
    for one, other in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_half_precision_goes_in_and_comes_out_and_is_summed_in_full() -> None:
    x = pictures((256, 4), 30.0).astype(np.float16)
    layer = SyncBatchNorm(SingleDevice(), momentum=0.0, dtype="float32", autocast=False)
    outputs = layer(tf.constant(x), training=True)
    assert outputs.dtype == tf.float16
    np.testing.assert_allclose(layer.moving_mean, x.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, x.astype(np.float64).var(0), rtol=1e-4)


class Halves(SingleDevice):
    """One of two replicas; what the other brings to a sum is given."""

    replicas = 2

    def __init__(self, other: list[np.ndarray] | None) -> None:
        super().__init__()
        self.brought: list[np.ndarray] = []
        self._other = other

    def reduce_sum(self, tensors: Any) -> list[tf.Tensor]:
        self.brought = [tensor.numpy() for tensor in tensors]
        other = self._other or [np.zeros_like(one) for one in self.brought]
        return [tensor + add for tensor, add in zip(tensors, other, strict=True)]


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_two_halves_are_normalised_as_the_whole(offset: float) -> None:
    """Of halves that lie apart, so that each by itself would give something else."""
    x = pictures((32, 3), offset)
    x[16:] += 5.0
    brought = []
    for half in (x[:16], x[16:]):
        asked = Halves(None)
        SyncBatchNorm(asked)(half, training=True)
        brought.append(asked.brought)
    whole = SyncBatchNorm(SingleDevice(), momentum=0.0)
    wanted = whole(x, training=True).numpy()
    for at, half in enumerate((x[:16], x[16:])):
        layer = SyncBatchNorm(Halves(brought[1 - at]), momentum=0.0)
        got = layer(half, training=True).numpy()
        np.testing.assert_allclose(got, wanted[16 * at : 16 * at + 16], atol=2e-3)
        np.testing.assert_allclose(layer.moving_variance, whole.moving_variance, rtol=1e-4)
        np.testing.assert_allclose(layer.moving_mean, whole.moving_mean, rtol=1e-6)


def model_with(*layers: Any) -> tuple[Any, Any]:
    """A model of a backbone (which has a norm of Keras) and ``layers``; and the backbone."""
    backbone = tf_keras.Sequential(
        [tf_keras.layers.Dense(3), tf_keras.layers.BatchNormalization(name="inside")]
    )
    inputs = tf_keras.Input((4,))
    x = backbone(inputs)
    for layer in layers:
        x = layer(x)
    return tf_keras.Model(inputs, x), backbone


def test_a_norm_of_each_replica_by_itself_is_refused() -> None:
    own = tf_keras.layers.BatchNormalization(name="mine")
    model, backbone = model_with(own)
    check_synchronised(model, backbone, 1)
    with pytest.raises(SpecError, match=r"got mine with 2 replicas.*SyncBatchNorm") as raised:
        check_synchronised(model, backbone, 2)
    assert raised.value.exit_code == 2
    own.trainable = False  # it uses its moving averages
    check_synchronised(model, backbone, 2)


def test_a_norm_inside_another_layer_of_the_head_is_found_too() -> None:
    nested = tf_keras.Sequential([tf_keras.layers.BatchNormalization(name="deep")])
    model, backbone = model_with(nested)
    with pytest.raises(SpecError, match="got deep with 4 replicas"):
        check_synchronised(model, backbone, 4)


def test_ours_and_the_frozen_backbones_are_accepted() -> None:
    model, backbone = model_with(SyncBatchNorm(SingleDevice()))
    check_synchronised(model, backbone, 8)


def test_a_backbone_in_training_mode_is_of_one_replica(tiny_backbone: Path) -> None:
    where = "training.phases.1.backbone_mode"
    model, backbone = model_with()
    check_synchronised(model, backbone, 1, where)
    with pytest.raises(SpecError, match="backbone_mode: training with 2 replicas") as raised:
        check_synchronised(model, backbone, 2, where)
    assert raised.value.problems[0].path == where
    plain = tf_keras.Sequential([tf_keras.layers.Dense(3)])
    check_synchronised(tf_keras.Sequential([plain]), plain, 2, where)
    module = hub.KerasLayer(str(tiny_backbone))
    with pytest.raises(SpecError, match="fused inside"):
        check_synchronised(tf_keras.Sequential([module]), module, 2, where)


def test_its_config_can_be_shown() -> None:
    layer = SyncBatchNorm(SingleDevice(), momentum=0.9, epsilon=1e-5, name="n")
    assert {"name": "n", "momentum": 0.9, "epsilon": 1e-5}.items() <= layer.get_config().items()
