"""Optimizers whose variables have rates and beginnings of their own, held against Keras' own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
import tf_keras  # noqa: E402

from harness.train.parted import parted  # noqa: E402
from harness.train.plan import Phase  # noqa: E402

KINDS = {
    "adam": (tf_keras.optimizers.Adam, {}),
    "adamw": (tf_keras.optimizers.AdamW, {"weight_decay": 0.1}),
    "sgd": (tf_keras.optimizers.SGD, {"momentum": 0.9}),
    "rmsprop": (tf_keras.optimizers.RMSprop, {"momentum": 0.5, "weight_decay": 0.05}),
}
GRADIENTS = [[1.0, -2.0], [0.3, 0.4], [-5.0, 0.1], [0.2, 0.2], [1e-3, 3.0]]


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any]]:
    return KINDS[str(request.param)]


def make(kind: Any, options: dict[str, Any], variables: Sequence[Any]) -> Any:
    made = kind(learning_rate=0.1, jit_compile=False, **options)
    made.build(list(variables))
    return made


def variables(count: int = 2) -> list[Any]:
    return [tf.Variable([1.0, 2.0], name=f"v{at}/kernel") for at in range(count)]


def step(optimizer: Any, chosen: Sequence[Any], gradient: Sequence[float]) -> None:
    optimizer.apply_gradients([(tf.constant(gradient), variable) for variable in chosen])


def test_without_parts_it_is_the_optimizer_of_keras(kind: Any) -> None:
    ours, theirs = variables(), variables()
    one, other = make(parted(kind[0]), kind[1], ours), make(kind[0], kind[1], theirs)
    for gradient in GRADIENTS:
        step(one, ours, gradient)
        step(other, theirs, gradient)
    np.testing.assert_array_equal(ours[1].numpy(), theirs[1].numpy())
    assert [v.name for v in one.variables] == [v.name for v in other.variables]
    assert one.name == other.name
    assert int(one.iterations) == len(GRADIENTS)


def test_a_factor_is_another_learning_rate(kind: Any) -> None:
    """Also of weight decay, which goes by the rate."""
    ours = variables()
    one = make(parted(kind[0]), kind[1], ours)
    one.set_parts({1: 0.25}, {}, ours)
    plain, slow = variables(1), variables(1)
    fast_one, slow_one = make(kind[0], kind[1], plain), make(kind[0], kind[1], slow)
    slow_one.learning_rate = 0.025
    for gradient in GRADIENTS:
        step(one, ours, gradient)
        step(fast_one, plain, gradient)
        step(slow_one, slow, gradient)
    np.testing.assert_allclose(ours[0].numpy(), plain[0].numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours[1].numpy(), slow[0].numpy(), rtol=1e-6)
    assert float(one.learning_rate) == pytest.approx(0.1)  # outside of a step it is the head's


def test_what_begins_late_begins_like_new(kind: Any) -> None:
    ours, new = variables(), variables(1)
    one, other = make(parted(kind[0]), kind[1], ours), make(kind[0], kind[1], new)
    for gradient in GRADIENTS:
        step(one, ours[:1], gradient)
    one.set_parts({}, {1: len(GRADIENTS)}, ours)
    for gradient in GRADIENTS[:3]:
        step(one, ours, gradient)
        step(other, new, gradient)
    np.testing.assert_allclose(ours[1].numpy(), new[0].numpy(), rtol=1e-6)


def test_left_alone_adams_first_late_step_is_three_times_too_long() -> None:
    """Why it is worth the trouble."""
    ours = variables()
    one = make(parted(tf_keras.optimizers.Adam), {}, ours)
    for _ in range(1000):
        step(one, ours[:1], [0.0, 0.0])
    step(one, ours, [1.0, 1.0])
    assert 1.0 - ours[1].numpy()[0] == pytest.approx(0.1 * 0.1 / np.sqrt(0.001), rel=0.5)


def test_forgotten_it_is_new(kind: Any) -> None:
    ours, new = variables(1), variables(1)
    one = make(parted(kind[0]), kind[1], ours)
    for gradient in GRADIENTS:
        step(one, ours, gradient)
    one.forget()
    assert float(one.learning_rate) == pytest.approx(0.1)
    ours[0].assign([1.0, 2.0])
    other = make(kind[0], kind[1], new)
    for gradient in GRADIENTS:
        step(one, ours, gradient)
        step(other, new, gradient)
    np.testing.assert_array_equal(ours[0].numpy(), new[0].numpy())


def test_it_knows_what_it_keeps_of_a_variable() -> None:
    ours = variables()
    one = make(parted(tf_keras.optimizers.Adam), {}, ours)
    names = [slot.name for slot in one.slots(ours[1])]
    assert len(names) == 2
    assert all("v1" in name for name in names)
    assert one.slots(tf.Variable(1.0)) == []


@pytest.mark.parametrize(
    ("rate", "decay", "distance", "factor"),
    [(None, 1.0, 5, 1.0), (1e-4, 1.0, 5, 0.1), (1e-4, 0.5, 0, 0.1), (1e-4, 0.5, 3, 0.0125)],
)
def test_rates_fall_from_block_to_block(
    rate: float | None, decay: float, distance: int, factor: float
) -> None:
    phase = Phase(
        0, "p", 1, 1, 32, 1e-3, 0, "constant", "last", backbone_rate=rate, decay_per_block=decay
    )
    assert phase.factor(distance) == pytest.approx(factor)
