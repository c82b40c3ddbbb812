"""Permutations of [0, n) as pure functions of a key: no table, no state, exactly invertible.

TensorFlow's own ``index_shuffle`` cannot carry an order that must be exact: it is no permutation
when n is 2**16 + 1, 2**18 + 1, 2**20 + 1, ... (measured in 2.21: values repeat), and it walks
through 65,536 numbers however small n is (270 microseconds an index for n = 2).  This one is a
Feistel network over a grid of a*b >= n cells with modular addition, followed by cycle walking
over the few spare cells (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002,
methods "generalized Feistel" and "cycle walking").  It is meant for shuffling, not for secrecy.

All arithmetic stays within non-negative int64, so every TensorFlow version and device, and numpy
in the tests, gives the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

ROUNDS = 10
"""Rounds of the network.  With 8, pairs of positions of tiny domains (n = 5, 8) still failed a
chi-square test over 20,000 keys; with 10 and the grids of ``grid_of`` they pass."""

_MASK = 0xFFFFFFFF
_MULTIPLIER = 0x45D9F3B
_GOLDEN = 0x9E3779B9


class Key(NamedTuple):
    """64 bits as two int64 tensors in [0, 2**32), scalars or vectors."""

    a: tf.Tensor
    b: tf.Tensor


class Domain(NamedTuple):
    """What a permutation permutes: n cells of an a x b grid, int64 scalars or vectors.

    See :func:`harness.data.lanes.grid_of`.
    """

    n: tf.Tensor
    a: tf.Tensor
    b: tf.Tensor


def mix(x: tf.Tensor) -> tf.Tensor:
    """Hash of int64 in [0, 2**32) to the same range, elementwise and one-to-one.

    The integer hash by Thomas Mueller, two xor-shift-multiply rounds; its multiplier fits in
    31 bits, so no product leaves int64.
    """
    shift = tf.bitwise.right_shift
    sixteen = tf.constant(16, tf.int64)
    for _ in range(2):
        x = tf.bitwise.bitwise_and((x ^ shift(x, sixteen)) * _MULTIPLIER, _MASK)
    return x ^ shift(x, sixteen)


def key_of(*numbers: int | tf.Tensor) -> Key:
    """A key from whole numbers (63 bits each), in order; tensors broadcast."""
    key = Key(tf.constant(_GOLDEN, tf.int64), tf.constant(_MULTIPLIER, tf.int64))
    for number in numbers:
        key = fold(key, number)
    return key


def fold(key: Key, number: int | tf.Tensor) -> Key:
    """The key of the further ``number``: differs for other keys and other numbers."""
    number = tf.cast(tf.convert_to_tensor(number, tf.int64), tf.int64)
    low = tf.bitwise.bitwise_and(number, _MASK)
    high = tf.bitwise.bitwise_and(tf.bitwise.right_shift(number, tf.constant(32, tf.int64)), _MASK)
    a = mix(_wrap(mix(key.a ^ low) + key.b))
    b = mix(_wrap(mix(key.b ^ high) + a + _GOLDEN))
    return Key(a, b)


def seed_pair(key: Key, number: tf.Tensor) -> tf.Tensor:
    """int64 [..., 2] seed of TensorFlow's stateless ops for ``key`` and ``number``."""
    folded = fold(key, number)
    high = tf.bitwise.bitwise_and(folded.a, 0x7FFFFFFF)
    first = tf.bitwise.left_shift(high, tf.constant(32, tf.int64))
    return tf.stack([first | folded.b, tf.broadcast_to(number, tf.shape(folded.b))], axis=-1)


def permute(x: tf.Tensor, domain: Domain, key: Key) -> tf.Tensor:
    """Where position ``x`` goes: int64 in [0, n), one-to-one for each key.

    Args:
        x: int64, a scalar or a vector, each in [0, n).
        domain: scalars, or vectors as long as ``x``.
        key: scalars, or vectors as long as ``x``.
    """
    return _walk(_forward, x, domain, key)


def unpermute(y: tf.Tensor, domain: Domain, key: Key) -> tf.Tensor:
    """The inverse of :func:`permute`: which position went to ``y``."""
    return _walk(_backward, y, domain, key)


def _wrap(x: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_and(x, _MASK)


def _walk(step: Callable[..., tf.Tensor], x: tf.Tensor, domain: Domain, key: Key) -> tf.Tensor:
    """Applies ``step`` until every element is inside [0, n) again."""
    shape = tf.broadcast_dynamic_shape(tf.shape(x), tf.shape(domain.n))
    x = tf.broadcast_to(x, tf.broadcast_dynamic_shape(shape, tf.shape(key.a)))
    outside = lambda y: tf.reduce_any(y >= domain.n)  # noqa: E731
    again = lambda y: (tf.where(y >= domain.n, step(y, domain, key), y),)  # noqa: E731
    return tf.while_loop(outside, again, (step(x, domain, key),), parallel_iterations=1)[0]


def _draw(half: tf.Tensor, key: Key, round_: int, side: tf.Tensor) -> tf.Tensor:
    """A number in [0, side) from one half of the grid position: multiply-shift of its hash."""
    hashed = mix(half ^ _wrap(key.a + round_ * key.b))
    return tf.bitwise.right_shift(hashed * side, tf.constant(32, tf.int64))


def _forward(x: tf.Tensor, domain: Domain, key: Key) -> tf.Tensor:
    left, right = x // domain.b, x % domain.b
    for round_ in range(0, ROUNDS, 2):
        left = _reduce(left + _draw(right, key, round_, domain.a), domain.a)
        right = _reduce(right + _draw(left, key, round_ + 1, domain.b), domain.b)
    return left * domain.b + right


def _backward(y: tf.Tensor, domain: Domain, key: Key) -> tf.Tensor:
    left, right = y // domain.b, y % domain.b
    for round_ in range(ROUNDS - 2, -1, -2):
        right = _raise(right - _draw(left, key, round_ + 1, domain.b), domain.b)
        left = _raise(left - _draw(right, key, round_, domain.a), domain.a)
    return left * domain.b + right


def _reduce(x: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    return tf.where(x >= side, x - side, x)


def _raise(x: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    return tf.where(x < 0, x + side, x)
