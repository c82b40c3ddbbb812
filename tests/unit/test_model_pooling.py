"""Feature maps and sequences become one vector, where a spec says how."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from harness.errors import DataError
from harness.model.fit import ANY, check_fit
from harness.model.keras_apps import load_application
from harness.model.pooling import Pooling, pooling_after
from harness.spec import load_spec

TAKES = tf.TensorSpec([8, 8, 3], tf.float32, "images")


def layer(*shape: int | None) -> tf_keras.layers.Layer:
    """From pictures to features of a shape."""
    size = int(np.prod(shape))
    flat = tf_keras.Sequential(
        [tf_keras.layers.Flatten(), tf_keras.layers.Dense(size), tf_keras.layers.Reshape(shape)]
    )
    flat.build((None, 8, 8, 3))
    return flat


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (2, 1, 3, 5)])
@pytest.mark.parametrize("kind", ["average", "max"])
def test_places_become_one_vector(shape: tuple[int, ...], kind: str) -> None:
    features = np.random.default_rng(1).normal(size=(7, *shape)).astype(np.float32)
    flat = features.reshape(7, -1, shape[-1])
    wanted = flat.max(1) if kind == "max" else flat.mean(1)
    found = Pooling(kind)(features)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "pooling", "fits"),
    [
        ((5,), None, True),
        ((5,), "max", False),
        ((5,), ANY, True),
        ((4, 5), None, False),
        ((4, 5), "average", True),
        ((2, 2, 5), "max", True),
        ((2, 2, 5), ANY, True),
    ],
)
def test_a_backbone_fits_its_pooling(
    shape: tuple[int, ...], pooling: str | None, fits: bool
) -> None:
    if fits:
        check_fit(layer(*shape), TAKES, pooling)
        return
    with pytest.raises(DataError) as caught:
        check_fit(layer(*shape), TAKES, pooling)
    assert caught.value.problems[0].path == "head.pooling"


@pytest.mark.parametrize(
    ("pooling", "kind"), [(None, "average"), ("average", "average"), ("max", "max")]
)
def test_keras_applications_pool_inside(pooling: str | None, kind: str) -> None:
    tf_keras.utils.set_random_seed(1)
    model = load_application("MobileNetV3Small", "random", (32,), pooling)
    pictures = tf.random.stateless_uniform((2, 32, 32, 3), (1, 2)) * 255
    last = tf_keras.Model(model.input, model.layers[-2].output)(pictures)
    np.testing.assert_allclose(model(pictures), Pooling(kind)(last), rtol=1e-5)


@pytest.mark.parametrize(
    ("handle", "after"), [("keras:MobileNetV2", None), ("hub:/m", "max"), ("plugin:x", "max")]
)
def test_who_pools(handle: str, after: str | None) -> None:
    spec = load_spec(
        {
            "harness_spec": 1,
            "name": "x",
            "backbone": {"handle": handle},
            "data": {"train": "."},
            "head": {"pooling": "max"},
        }
    ).spec
    assert pooling_after(spec) == after
