"""Metrics as plain sums, so that batches, replicas and ranks add up to the exact whole.

A metric is a set of sums that grow with every batch and a formula that turns the sums into
figures at the end.  Padded rows (mask 0) add nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

Sums = dict[str, tf.Tensor]


class ClassificationSums:
    """Accuracy and macro-averaged precision, recall and F1 of single-label classes.

    Keeps three counts a class (hits, predicted, actual), not a confusion matrix, so that its
    size grows with the classes and not with their square.

    Args:
        classes: number of classes.
        extra: the user's metrics: name to ``(labels [b], probabilities [b, classes]) -> [b]``;
            each is averaged over the examples.
    """

    def __init__(
        self, classes: int, extra: Mapping[str, Callable[..., tf.Tensor]] | None = None
    ) -> None:
        self.classes = classes
        self.extra = dict(extra or {})

    def names(self) -> Sequence[str]:
        """Names of the sums, in a fixed order."""
        return (
            "loss_sum",
            "weight_sum",
            "count",
            "hits",
            "predicted",
            "actual",
            *(f"extra/{name}" for name in self.extra),
        )

    def figure_names(self) -> Sequence[str]:
        """Names of the figures that :meth:`result` gives."""
        return ("loss", "accuracy", "precision", "recall", "f1", *self.extra)

    def zeros(self) -> dict[str, np.ndarray]:
        """The sums before the first batch; float64, as a float32 count is exact to 2**24 only."""
        per_class = {"hits", "predicted", "actual"}
        return {
            name: np.zeros((self.classes,) if name in per_class else (), np.float64)
            for name in self.names()
        }

    def update(
        self,
        labels: tf.Tensor,
        logits: tf.Tensor,
        losses: tf.Tensor,
        mask: tf.Tensor,
        weight: tf.Tensor,
    ) -> Sums:
        """What one batch adds.

        Args:
            labels: int32 [b]; logits: float32 [b, classes]; losses: float32 [b], not weighted;
            mask: float32 [b], 0 for padding; weight: float32 [b].
        """
        mask64 = tf.cast(mask, tf.float64)
        guesses = tf.argmax(logits, axis=-1, output_type=tf.int32)
        hit = mask64 * tf.cast(tf.equal(guesses, labels), tf.float64)

        def count(values: tf.Tensor, of: tf.Tensor) -> tf.Tensor:
            return tf.math.unsorted_segment_sum(values, of, self.classes)

        sums = {
            "loss_sum": tf.reduce_sum(mask64 * tf.cast(weight * losses, tf.float64)),
            "weight_sum": tf.reduce_sum(mask64 * tf.cast(weight, tf.float64)),
            "count": tf.reduce_sum(mask64),
            "hits": count(hit, labels),
            "predicted": count(mask64, guesses),
            "actual": count(mask64, labels),
        }
        if self.extra:
            probabilities = tf.nn.softmax(logits)
            for name, metric in self.extra.items():
                values = tf.cast(metric(labels, probabilities), tf.float64)
                sums[f"extra/{name}"] = tf.reduce_sum(mask64 * values)
        return sums

    def result(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Figures of the sums: loss, accuracy, precision, recall, f1 and the user's.

        The loss is ``sum(mask * weight * loss) / sum(mask)``, as in training.  Precision, recall
        and F1 are the means over the classes that occur among labels or predictions, 0 where a
        class has no prediction or no label (scikit-learn's ``macro`` with ``zero_division=0``).
        """
        count = float(sums["count"])
        if count == 0:
            return {}
        hits, predicted, actual = sums["hits"], sums["predicted"], sums["actual"]
        seen = (predicted + actual) > 0
        figures = {
            "loss": float(sums["loss_sum"]) / count,
            "accuracy": float(hits.sum()) / count,
            "precision": float(_ratio(hits, predicted)[seen].mean()),
            "recall": float(_ratio(hits, actual)[seen].mean()),
            "f1": float(_ratio(2 * hits, predicted + actual)[seen].mean()),
        }
        for name in self.extra:
            figures[name] = float(sums[f"extra/{name}"]) / count
        return figures


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
