"""What a checkpoint takes of a variable: its value now, whatever the next step does to it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from harness.train.state import not_finite, snapshot

VALUES = {
    "kernel": tf.random.stateless_normal((64, 65), (1, 2)),
    "half": tf.constant([1.5, -2.0], tf.bfloat16),
    "steps": tf.constant(7, tf.int64),
    "none": tf.zeros((0, 3)),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_snapshot_stays_as_it_was(name: str) -> None:
    value = VALUES[name]
    variable = tf.Variable(value)
    taken = snapshot({name: variable}, "model/")
    # In place, as an optimizer does it.
    variable.assign_add(tf.ones_like(value))
    array = taken[f"model/{name}"]
    assert isinstance(array, np.ndarray)
    assert array.dtype == value.dtype.as_numpy_dtype
    assert array.shape == value.shape
    np.testing.assert_array_equal(array, value.numpy())
    np.testing.assert_array_equal(variable.numpy(), (value + tf.ones_like(value)).numpy())


def test_a_variable_on_several_devices_gives_one_array() -> None:
    strategy = tf.distribute.MirroredStrategy(["/CPU:0"])
    with strategy.scope():
        variable = tf.Variable([1.0, 2.0])
    np.testing.assert_array_equal(snapshot({"v": variable}, "")["v"], [1.0, 2.0])


def test_only_what_is_asked_for_has_to_be_finite() -> None:
    tensors = {"model/w": np.array([1.0, np.inf]), "optimizer/m": np.array([np.nan])}
    assert not_finite(tensors, 3, "average/") is None
    found = not_finite(tensors, 3, "model/")
    assert found is not None and found.step == 2 and "model/w at step 3" in str(found)
