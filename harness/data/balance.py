"""Weights against unequal classes.  Free of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence


def class_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Weight of each class: n / (classes * n_c), scikit-learn's ``balanced`` (King and Zeng, 2001).

    The mean weight over the examples is 1.  Compute it on training examples only.  A class
    without examples has weight 0: nothing is ever multiplied by it.

    Args:
        counts: examples of each class.
    """
    present = sum(count > 0 for count in counts)
    return tuple(sum(counts) / (present * count) if count else 0.0 for count in counts)
