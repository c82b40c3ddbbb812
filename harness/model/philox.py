"""TensorFlow's own uniform draws, worked out in operations that XLA compiles to the same bits.

XLA has another generator of this name: what it compiles would draw other numbers than what it does
not, so a run would hang on ``training.jit_compile``.
"""

from __future__ import annotations

import tensorflow as tf

# Philox4x32-10: Salmon et al., 2011, Parallel random numbers: as easy as 1, 2, 3.
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MIXER = (0x3EC8F720, 0x02461E29)
"""The key by which TensorFlow mixes seeds (GetPhiloxKeyCounter)."""
_WORD = 0xFFFFFFFF


def uniform(seed: tf.Tensor, start: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """A piece of what ``tf.random.stateless_uniform`` gives outside of XLA.

    Args:
        seed: int [2].
        start: int scalar, number of the first draw.
        shape: int [r], of the result.

    Returns:
        float32 in [0, 1): draws ``start`` and following, in rows.
    """
    wide = tf.bitcast(tf.cast(seed, tf.int64), tf.uint64)
    # TensorFlow mixes a seed before it is used, so that any will do.
    mixed = _philox([*_halves(wide[0]), *_halves(wide[1])], [_word(each) for each in _MIXER])
    index = tf.cast(start, tf.int64) + tf.range(tf.cast(tf.reduce_prod(shape), tf.int64))
    # Each value of the counter gives four numbers of 32 bits.
    words = _halves(tf.cast(index // 4, tf.uint64))
    four = _philox([*words, *(tf.fill(tf.shape(index), each) for each in mixed[2:])], mixed[:2])
    bits = tf.gather(tf.stack(four, axis=1), index % 4, axis=1, batch_dims=1)
    # The 23 lowest bits are the fraction of a float32 in [1, 2).
    fraction = tf.cast(_and(bits, 0x7FFFFF), tf.uint32)
    floats = tf.bitcast(fraction + tf.constant(0x3F800000, tf.uint32), tf.float32) - 1.0
    return tf.reshape(floats, shape)


def _philox(counter: list[tf.Tensor], key: list[tf.Tensor]) -> list[tf.Tensor]:
    """Four words from four words and a key of two; words are uint64 below 2^32."""
    for _ in range(_ROUNDS):
        (high0, low0), (high1, low1) = (
            _halves(counter[at] * _word(by))[::-1]
            for at, by in zip((0, 2), _MULTIPLIERS, strict=True)
        )
        counter = [_xor(high1, counter[1], key[0]), low1, _xor(high0, counter[3], key[1]), low0]
        key = [_and(each + _word(step), _WORD) for each, step in zip(key, _WEYL, strict=True)]
    return counter


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)


def _halves(x: tf.Tensor) -> list[tf.Tensor]:
    """The low and the high word of uint64."""
    return [_and(x, _WORD), tf.bitwise.right_shift(x, _word(32))]


def _and(x: tf.Tensor, mask: int) -> tf.Tensor:
    return tf.bitwise.bitwise_and(x, _word(mask))


def _xor(*words: tf.Tensor) -> tf.Tensor:
    first, second, third = words
    return tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(first, second), third)
