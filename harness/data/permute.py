"""Permutations of [0, n) as pure functions of a key: no table, no state, exactly invertible.

TensorFlow's own ``index_shuffle`` cannot carry an order that must be exact: it is no permutation
when n is 2**16 + 1, 2**18 + 1, 2**20 + 1, ... (measured in 2.21: values repeat), and it walks
through 65,536 numbers however small n is (270 microseconds an index for n = 2).  This one is a
Feistel network over a grid of a*b >= n cells with modular addition, followed by cycle walking
over the few spare cells (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002,
methods "generalized Feistel" and "cycle walking").  It is meant for shuffling, not for secrecy.

Plain numpy, in non-negative int64 throughout: readers need it before there is any graph, a graph
of it took a second to trace, and a few thousand indices at once cost numpy less than TensorFlow.
:mod:`harness.data.seeds` has the hash a second time, for graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
"""int64: a scalar, or a vector as long as the others."""

ROUNDS = 10
"""Rounds of the network.  With 8, pairs of positions of tiny domains (n = 5, 8) still failed a
chi-square test over 20,000 keys; with 10 and the grids of ``grid_of`` they pass."""

MULTIPLIER = 0x45D9F3B
GOLDEN = 0x9E3779B9
_LOW = 0xFFFFFFFF


class Key(NamedTuple):
    """64 bits as two int64 in [0, 2**32), scalars or vectors."""

    a: Numbers
    b: Numbers


class Domain(NamedTuple):
    """What a permutation permutes: n cells of an a x b grid, int64 scalars or vectors.

    See :func:`harness.data.lanes.grid_of`.
    """

    n: Numbers
    a: Numbers
    b: Numbers


def mix(x: Numbers) -> Numbers:
    """Hash of int64 in [0, 2**32) to the same range, elementwise and one-to-one.

    The integer hash by Thomas Mueller, two xor-shift-multiply rounds; its multiplier fits in
    31 bits, so no product leaves int64.
    """
    for _ in range(2):
        x = ((x ^ x >> 16) * MULTIPLIER) & _LOW
    return x ^ x >> 16


def key_of(*numbers: int | Numbers) -> Key:
    """A key from whole numbers (63 bits each), in order; vectors broadcast."""
    key = Key(np.array(GOLDEN, np.int64), np.array(MULTIPLIER, np.int64))
    for number in numbers:
        key = fold(key, number)
    return key


def fold(key: Key, number: int | Numbers) -> Key:
    """The key of the further ``number``: differs for other keys and other numbers."""
    number = np.asarray(number, np.int64)
    a = mix((mix(key.a ^ number & _LOW) + key.b) & _LOW)
    b = mix((mix(key.b ^ number >> 32 & _LOW) + a + GOLDEN) & _LOW)
    return Key(a, b)


def permute(x: Numbers, domain: Domain, key: Key) -> Numbers:
    """Where positions ``x`` go: int64 [n] in [0, domain.n), one-to-one for each key.

    Args:
        x: int64 vector, each in [0, domain.n).
        domain: scalars, or vectors as long as ``x``.
        key: scalars, or vectors as long as ``x``.
    """
    return _walk(_forward, x, domain, key)


def unpermute(y: Numbers, domain: Domain, key: Key) -> Numbers:
    """The inverse of :func:`permute`: which positions went to ``y``."""
    return _walk(_backward, y, domain, key)


def _walk(once: Callable[..., Numbers], x: Numbers, domain: Domain, key: Key) -> Numbers:
    """Takes every element through the network, and again while it is outside [0, n)."""
    out = once(x, domain, key)
    outside = np.flatnonzero(out >= domain.n)
    while len(outside):
        some = Domain(*(_at(each, outside) for each in domain))
        moved = once(out[outside], some, Key(*(_at(each, outside) for each in key)))
        out[outside] = moved
        outside = outside[moved >= some.n]
    return out


def _at(numbers: Numbers, which: Numbers) -> Numbers:
    return numbers[which] if np.ndim(numbers) else numbers


def _forward(x: Numbers, domain: Domain, key: Key) -> Numbers:
    left, right = np.divmod(x, domain.b)
    for i in range(0, ROUNDS, 2):
        left = left + _draw(right, key, i, domain.a)
        left -= np.where(left >= domain.a, domain.a, 0)
        right = right + _draw(left, key, i + 1, domain.b)
        right -= np.where(right >= domain.b, domain.b, 0)
    return np.atleast_1d(left * domain.b + right)


def _backward(y: Numbers, domain: Domain, key: Key) -> Numbers:
    left, right = np.divmod(y, domain.b)
    for i in range(ROUNDS - 2, -1, -2):
        right = right - _draw(left, key, i + 1, domain.b)
        right += np.where(right < 0, domain.b, 0)
        left = left - _draw(right, key, i, domain.a)
        left += np.where(left < 0, domain.a, 0)
    return np.atleast_1d(left * domain.b + right)


def _draw(half: Numbers, key: Key, round_: int, side: Numbers) -> Numbers:
    """A number in [0, side) from one half of the grid position: multiply-shift of its hash."""
    return mix(half ^ (key.a + round_ * key.b) & _LOW) * side >> 32
