"""Weights against unequal classes.  Free of TensorFlow."""

from __future__ import annotations

from collections import Counter

from harness.data.index import ExampleIndex


def class_weights(index: ExampleIndex) -> tuple[float, ...]:
    """Weight of each class: n / (classes * n_c), scikit-learn's ``balanced`` (King and Zeng, 2001).

    The mean weight over the examples is 1.  Compute it on training examples only.  A class
    without examples has weight 0: nothing is ever multiplied by it.
    """
    held = Counter(index.labels)
    present = len(held)
    return tuple(
        len(index) / (present * held[label]) if held[label] else 0.0
        for label in range(len(index.classes))
    )
