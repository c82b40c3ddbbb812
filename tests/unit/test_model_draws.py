"""Draws of replicas and of parts: put together they are those of one device in one go."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.model.draws import Draws, Dropout  # noqa: E402


def draws_of(replica: int, replicas: int, part: int, parts: int, seed: int = 3) -> Draws:
    spread = SimpleNamespace(replicas=replicas, replica=lambda: tf.constant(replica, tf.int32))
    draws = Draws(seed, spread)
    draws.parts, draws.part = parts, part
    return draws


def rows(batch: int, width: int, replicas: int, parts: int, step: int, layer: int) -> np.ndarray:
    """The whole draw, from all replicas and their parts, in the order of the global batch."""
    each = batch // (replicas * parts)
    pieces = []
    for replica, part in itertools.product(range(replicas), range(parts)):
        draws = draws_of(replica, replicas, part, parts)
        draws.step.assign(step)
        pieces.append(draws.uniform(tf.zeros([each, width]), layer).numpy())
    return np.concatenate(pieces)


@settings(max_examples=15)
@given(
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 3),
    st.integers(0, 2**40),
    st.integers(0, 5),
)
def test_all_rows_together_are_the_whole_draw(
    replicas: int, parts: int, each: int, step: int, layer: int
) -> None:
    batch = replicas * parts * each
    whole = rows(batch, 5, 1, 1, step, layer)
    np.testing.assert_array_equal(rows(batch, 5, replicas, parts, step, layer), whole)
    assert whole.shape == (batch, 5)
    assert ((whole >= 0) & (whole < 1)).all()


def test_no_two_steps_layers_or_seeds_draw_the_same() -> None:
    seen = set()
    for step, layer, seed in itertools.product((0, 1, 2**33), (0, 1), (3, 3 + 2**31 - 1)):
        draws = draws_of(0, 1, 0, 1, seed)
        draws.step.assign(step)
        seen.add(draws.uniform(tf.zeros([2, 4]), layer).numpy().tobytes())
    assert len(seen) == 12


def test_a_part_may_be_a_tensor_of_a_loop() -> None:
    """As in a step whose parts are turns of a loop in the graph."""
    draws = draws_of(1, 2, 0, 4)

    @tf.function
    def looped() -> tf.Tensor:
        found = tf.TensorArray(tf.float32, 4)
        for part in tf.range(4):
            draws.part = part
            found = found.write(part, draws.uniform(tf.zeros([2, 3]), 0))
        return found.concat()

    np.testing.assert_array_equal(looped(), rows(16, 3, 1, 1, 0, 0)[8:])


@pytest.mark.parametrize(("replicas", "parts"), [(1, 4), (2, 2), (4, 1)])
def test_dropout_of_parts_is_dropout_of_the_batch(replicas: int, parts: int) -> None:
    x = tf.reshape(tf.range(1.0, 33.0), [8, 4])
    whole = Dropout(0.5, Draws(3, SingleDevice()), 1)(x, training=True)
    pieces = []
    for at, piece in enumerate(tf.split(x, replicas * parts)):
        layer = Dropout(0.5, draws_of(at // parts, replicas, at % parts, parts), 1)
        pieces.append(layer(piece, training=True))
        np.testing.assert_array_equal(layer(piece, training=False), piece)
    np.testing.assert_array_equal(tf.concat(pieces, 0), whole)
    assert 0 < np.count_nonzero(whole) < 32
