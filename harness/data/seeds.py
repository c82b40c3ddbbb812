"""Seeds of TensorFlow's stateless draws, as pure functions of whole numbers, inside graphs.

The hash is that of :mod:`harness.data.permute`.  Every TensorFlow version and device gives the
same values: all arithmetic stays within non-negative int64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from harness.data.permute import GOLDEN, MULTIPLIER

_ANY = tf.TensorSpec(None, tf.int64)


class Key(NamedTuple):
    """64 bits as two int64 tensors in [0, 2**32), scalars or vectors."""

    a: tf.Tensor
    b: tf.Tensor


def key_of(*numbers: int | tf.Tensor) -> Key:
    """A key from whole numbers (63 bits each), in order; tensors broadcast."""
    key = Key(tf.constant(GOLDEN, tf.int64), tf.constant(MULTIPLIER, tf.int64))
    for number in numbers:
        key = fold(key, number)
    return key


def fold(key: Key, number: int | tf.Tensor) -> Key:
    """The key of the further ``number``: differs for other keys and other numbers."""
    return Key(*_fold(key.a, key.b, tf.convert_to_tensor(number, tf.int64)))


def seed_pair(key: Key, number: tf.Tensor) -> tf.Tensor:
    """int64 [2] seed of TensorFlow's stateless ops for ``key`` and ``number``, both scalars."""
    folded = fold(key, number)
    high = tf.bitwise.left_shift(tf.bitwise.bitwise_and(folded.a, 0x7FFFFFFF), _constant(32))
    return tf.ensure_shape(tf.stack([high | folded.b, number]), [2])


def _traced_once(*signature: tf.TensorSpec) -> Callable[..., Callable[..., Any]]:
    # Some dozen operations, and several draws of every example: tracing them anew for each took
    # seconds at every start.
    return tf.function(input_signature=signature, autograph=False)


@_traced_once(_ANY, _ANY, _ANY)
def _fold(a: tf.Tensor, b: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    a = _mix(_low(_mix(a ^ _low(number)) + b))
    b = _mix(_low(_mix(b ^ _low(_right(number, 32))) + a + GOLDEN))
    return a, b


@_traced_once(_ANY)
def _mix(x: tf.Tensor) -> tf.Tensor:
    for _ in range(2):
        x = _low((x ^ _right(x, 16)) * MULTIPLIER)
    return x ^ _right(x, 16)


def _low(x: tf.Tensor) -> tf.Tensor:
    """The low 32 bits."""
    return tf.bitwise.bitwise_and(x, _constant(0xFFFFFFFF))


def _right(x: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(x, _constant(bits))


def _constant(number: int) -> tf.Tensor:
    return tf.constant(number, tf.int64)
