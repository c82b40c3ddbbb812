"""Draws inside of what XLA compiles: the bits of TensorFlow's own."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.model import philox  # noqa: E402
from harness.model.draws import Draws  # noqa: E402


@pytest.fixture(scope="module")
def compiled() -> tf.types.experimental.GenericFunction:
    return tf.function(lambda seed, start: philox.uniform(seed, start, [7, 5]), jit_compile=True)


@pytest.mark.parametrize("seed", [(0, 0), (5, 9), (-1, 2**31 - 1), (2**62, -(2**40))])
@pytest.mark.parametrize("start", [0, 3, 4, 70, 131])
def test_a_piece_of_a_draw_has_the_bits_of_the_whole(
    compiled: tf.types.experimental.GenericFunction, seed: tuple[int, int], start: int
) -> None:
    given = tf.constant(seed, tf.int64)
    whole = tf.random.stateless_uniform([start + 35], given, alg="philox").numpy()
    found = compiled(given, tf.constant(start))
    np.testing.assert_array_equal(found.numpy().reshape(-1), whole[start:])


@pytest.mark.parametrize("part", [0, 2])
def test_a_model_draws_the_same_whoever_compiles_it(part: int) -> None:
    draws = Draws(2**31 + 7, SingleDevice())
    draws.parts, draws.part = 3, part
    draws.step.assign(12)
    like = tf.zeros([4, 2, 6])
    plain = draws.uniform(like, 1).numpy()

    @tf.function(jit_compile=True)
    def drawn(step: tf.Tensor) -> tf.Tensor:
        draws.now = step
        return draws.uniform(like, 1)

    np.testing.assert_array_equal(drawn(tf.constant(12, tf.int64)).numpy(), plain)
