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
from typing import Any, NamedTuple

import tensorflow as tf

ROUNDS = 10
"""Rounds of the network.  With 8, pairs of positions of tiny domains (n = 5, 8) still failed a
chi-square test over 20,000 keys; with 10 and the grids of ``grid_of`` they pass."""

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


_ANY = tf.TensorSpec(None, tf.int64)
_VECTOR = tf.TensorSpec([None], tf.int64)


def _traced_once(*signature: tf.TensorSpec) -> Callable[..., Callable[..., Any]]:
    # Some hundred operations: tracing them anew at every use took seconds at each start.
    return tf.function(input_signature=signature, autograph=False)


@_traced_once(_ANY)
def mix(x: tf.Tensor) -> tf.Tensor:
    """Hash of int64 in [0, 2**32) to the same range, elementwise and one-to-one.

    The integer hash by Thomas Mueller, two xor-shift-multiply rounds; its multiplier fits in
    31 bits, so no product leaves int64.
    """
    for _ in range(2):
        x = _low((x ^ _right(x, 16)) * _MULTIPLIER)
    return x ^ _right(x, 16)


def key_of(*numbers: int | tf.Tensor) -> Key:
    """A key from whole numbers (63 bits each), in order; tensors broadcast."""
    key = Key(tf.constant(_GOLDEN, tf.int64), tf.constant(_MULTIPLIER, tf.int64))
    for number in numbers:
        key = fold(key, number)
    return key


def fold(key: Key, number: int | tf.Tensor) -> Key:
    """The key of the further ``number``: differs for other keys and other numbers."""
    return Key(*_fold(key.a, key.b, tf.convert_to_tensor(number, tf.int64)))


@_traced_once(_ANY, _ANY, _ANY)
def _fold(a: tf.Tensor, b: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    a = mix(_low(mix(a ^ _low(number)) + b))
    b = mix(_low(mix(b ^ _low(_right(number, 32))) + a + _GOLDEN))
    return a, b


def seed_pair(key: Key, number: tf.Tensor) -> tf.Tensor:
    """int64 [2] seed of TensorFlow's stateless ops for ``key`` and ``number``, both scalars."""
    folded = fold(key, number)
    high = tf.bitwise.left_shift(tf.bitwise.bitwise_and(folded.a, 0x7FFFFFFF), _constant(32))
    return tf.ensure_shape(tf.stack([high | folded.b, number]), [2])


def permute(x: tf.Tensor, domain: Domain, key: Key) -> tf.Tensor:
    """Where positions ``x`` go: int64 [n] in [0, domain.n), one-to-one for each key.

    Args:
        x: int64 vector, each in [0, domain.n).
        domain: scalars, or vectors as long as ``x``.
        key: scalars, or vectors as long as ``x``.
    """
    return _permute(*_as_long_as(x, *domain, *key))


def unpermute(y: tf.Tensor, domain: Domain, key: Key) -> tf.Tensor:
    """The inverse of :func:`permute`: which positions went to ``y``."""
    return _unpermute(*_as_long_as(y, *domain, *key))


def _as_long_as(x: tf.Tensor, *others: tf.Tensor) -> list[tf.Tensor]:
    return [x, *(tf.broadcast_to(other, tf.shape(x)) for other in others)]


@_traced_once(*[_VECTOR] * 6)
def _permute(x: tf.Tensor, n: tf.Tensor, a: tf.Tensor, b: tf.Tensor, *key: tf.Tensor) -> tf.Tensor:
    def pair(i: tf.Tensor, left: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, ...]:
        left = _reduce(left + _draw(right, key, 2 * i, a), a)
        right = _reduce(right + _draw(left, key, 2 * i + 1, b), b)
        return i + 1, left, right

    return _walk(pair, x, n, b)


@_traced_once(*[_VECTOR] * 6)
def _unpermute(
    y: tf.Tensor, n: tf.Tensor, a: tf.Tensor, b: tf.Tensor, *key: tf.Tensor
) -> tf.Tensor:
    def pair(i: tf.Tensor, left: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, ...]:
        first = ROUNDS - 2 - 2 * i
        right = _raise(right - _draw(left, key, first + 1, b), b)
        left = _raise(left - _draw(right, key, first, a), a)
        return i + 1, left, right

    return _walk(pair, y, n, b)


def _walk(
    pair: Callable[..., tuple[tf.Tensor, ...]], x: tf.Tensor, n: tf.Tensor, b: tf.Tensor
) -> tf.Tensor:
    """Takes every element through all pairs of rounds, and again while it is outside [0, n)."""
    first = _constant(0)

    def again(x: tf.Tensor, todo: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        more = lambda i, left, right: i < ROUNDS // 2  # noqa: E731
        _, left, right = tf.while_loop(more, pair, (first, x // b, x % b))
        x = tf.where(todo, left * b + right, x)
        return x, x >= n

    return tf.while_loop(lambda x, todo: tf.reduce_any(todo), again, (x, tf.ones_like(x, tf.bool)))[
        0
    ]


def _draw(
    half: tf.Tensor, key: tuple[tf.Tensor, ...], round_: tf.Tensor, side: tf.Tensor
) -> tf.Tensor:
    """A number in [0, side) from one half of the grid position: multiply-shift of its hash."""
    return _right(mix(half ^ _low(key[0] + round_ * key[1])) * side, 32)


def _reduce(x: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    return tf.where(x >= side, x - side, x)


def _raise(x: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    return tf.where(x < 0, x + side, x)


def _low(x: tf.Tensor) -> tf.Tensor:
    """The low 32 bits."""
    return tf.bitwise.bitwise_and(x, _constant(0xFFFFFFFF))


def _right(x: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(x, _constant(bits))


def _constant(number: int) -> tf.Tensor:
    return tf.constant(number, tf.int64)
