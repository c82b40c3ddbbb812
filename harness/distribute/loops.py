"""Loops inside a traced function."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def repeat(times: int | tf.Tensor, body: Callable[[tf.Tensor], object]) -> None:
    """Calls ``body`` with 0, 1, ... in a graph, ``times`` times, for its effect on variables.

    Args:
        times: int32 scalar.
        body: is traced once; gets an int32 scalar.
    """

    def once(number: tf.Tensor) -> tf.Tensor:
        body(number)
        return number + 1

    tf.while_loop(lambda number: number < times, once, [tf.constant(0)], maximum_iterations=times)
