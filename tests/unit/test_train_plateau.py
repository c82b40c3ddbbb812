"""The rate that falls on a plateau is that of Keras."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.train.best import Best
from harness.train.plateau import Plateau


def keras_rates(values: list[float], mode: str, patience: int, factor: float) -> list[float]:
    """Rates after each epoch, by ``ReduceLROnPlateau``."""
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(1)])
    model.compile(tf_keras.optimizers.SGD(1.0))
    callback = tf_keras.callbacks.ReduceLROnPlateau(
        "metric", factor, patience, mode=mode, min_delta=0.01, cooldown=0, min_lr=0
    )
    callback.set_model(model)
    callback.on_train_begin()
    found = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"metric": value})
        found.append(float(model.optimizer.learning_rate.numpy()))
    return found


@given(
    values=st.lists(st.sampled_from([0.1, 0.105, 0.2, 0.5, 0.9]), min_size=1, max_size=20),
    mode=st.sampled_from(["min", "max"]),
    patience=st.integers(1, 4),
    factor=st.sampled_from([0.5, 0.1]),
    cut=st.integers(0, 20),
)
def test_rates_are_those_of_keras_also_after_a_resume(
    values: list[float], mode: str, patience: int, factor: float, cut: int
) -> None:
    def made() -> Plateau:
        return Plateau(Best("metric", mode, 0.01), patience, factor)

    plateau, found = made(), []
    for epoch, value in enumerate(values):
        if epoch == cut:
            again = made()
            again.from_json(plateau.to_json())
            plateau = again
        before = plateau.scale
        assert plateau.update(value, epoch) == (plateau.scale < before)
        found.append(plateau.scale)
    assert found == pytest.approx(keras_rates(values, mode, patience, factor))


def test_a_value_that_is_not_finite_is_no_gain_and_a_phase_begins_anew() -> None:
    plateau = Plateau(Best("loss"), 2, 0.1)
    assert [plateau.update(value, 0) for value in (1.0, float("nan"), float("nan"))] == [
        False,
        False,
        True,
    ]
    assert plateau.scale == 0.1
    plateau.restart()
    assert plateau.scale == 1.0
    assert not plateau.update(5.0, 1)
    assert plateau.best.value == 5.0
