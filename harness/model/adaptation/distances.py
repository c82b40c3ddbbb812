"""How far the features of two domains are from one another, as numbers that can be made small.

Rows with mask 0 count for nothing.  All of it is float32.
"""

from __future__ import annotations

import tensorflow as tf

_KERNELS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Widths of the Gaussian kernels, as multiples of the mean squared distance of two rows: those of
the code that Long et al. published, five that double from one to the next."""


def coral(
    source: tf.Tensor, target: tf.Tensor, source_mask: tf.Tensor, target_mask: tf.Tensor
) -> tf.Tensor:
    """Distance of the covariances, ``|C_s - C_t|^2 / (4 d^2)`` (Sun and Saenko, 2016: Deep CORAL).

    Args:
        source, target: features, float32 [n, d] and [m, d].
        source_mask, target_mask: float32 [n] and [m].

    Returns:
        float32 scalar; 0 where a domain has fewer than two rows.
    """
    width = float(source.shape[-1])
    apart = _covariance(source, source_mask) - _covariance(target, target_mask)
    enough = tf.minimum(tf.reduce_sum(source_mask), tf.reduce_sum(target_mask)) >= 2.0
    return tf.reduce_sum(tf.square(apart)) / (4.0 * width**2) * tf.cast(enough, tf.float32)


def mmd(
    source: tf.Tensor, target: tf.Tensor, source_mask: tf.Tensor, target_mask: tf.Tensor
) -> tf.Tensor:
    """Squared maximum mean discrepancy with the mean of five Gaussian kernels (Gretton et al.,
    2012; as a loss of features Long et al., 2015).

    ``k(x, y) = exp(-|x - y|^2 / w)``, with widths ``w`` that follow the mean squared distance of
    the batch, through which no gradient goes.  The estimate is the biased one, which is never
    negative.

    Args:
        source, target: features, float32 [n, d] and [m, d].
        source_mask, target_mask: float32 [n] and [m].

    Returns:
        float32 scalar; 0 where a domain has no row.
    """
    rows = tf.concat([source, target], 0)
    mask = tf.concat([source_mask, target_mask], 0)
    # Around their mean: far from zero the squares would cancel badly.
    rows -= tf.stop_gradient(_mean(rows, mask))
    squares = tf.reduce_sum(tf.square(rows), 1)
    products = tf.matmul(rows, rows, transpose_b=True)
    apart = tf.maximum(squares[:, None] + squares[None, :] - 2.0 * products, 0.0)
    pairs = mask[:, None] * mask[None, :]
    count = tf.reduce_sum(mask)
    typical = tf.math.divide_no_nan(tf.reduce_sum(pairs * apart), count * (count - 1.0))
    typical = tf.stop_gradient(tf.maximum(typical, 1e-12))
    kernel = tf.add_n([tf.exp(-apart / (width * typical)) for width in _KERNELS]) / len(_KERNELS)
    # +1/n of the source's rows, -1/m of the target's: the square of the difference of the means.
    shares = tf.concat(
        [
            tf.math.divide_no_nan(source_mask, tf.reduce_sum(source_mask)),
            -tf.math.divide_no_nan(target_mask, tf.reduce_sum(target_mask)),
        ],
        0,
    )
    found = tf.reduce_sum(shares[:, None] * kernel * shares[None, :])
    there = tf.minimum(tf.reduce_sum(source_mask), tf.reduce_sum(target_mask)) > 0.0
    return found * tf.cast(there, tf.float32)


def _mean(rows: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(tf.reduce_sum(mask[:, None] * rows, 0), tf.reduce_sum(mask))


def _covariance(rows: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """[d, d], with n - 1 below."""
    away = (rows - _mean(rows, mask)) * mask[:, None]
    return tf.math.divide_no_nan(tf.matmul(away, away, transpose_a=True), tf.reduce_sum(mask) - 1.0)
