"""Several labels at once: each is present, absent or not known, and none excludes another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from harness.model.metrics import Sums

_BINS = 200


class Multilabel:
    """Sigmoid cross-entropy on logits, for each label by itself.

    Targets are float32 [b, labels]: 1 present, 0 absent, -1 not known.  What is not known counts
    neither in the loss nor in a figure.  The loss of an example is the mean over its known labels,
    so that each example counts once, however many of its labels are known.

    Args:
        classes: names of the labels, in the order of the columns.
        label_smoothing: moves targets from 0 and 1 towards one half: ``t * (1 - s) + s / 2``;
            in training, not in evaluation.
        metrics: the user's per-example metrics by name.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        *,
        label_smoothing: float = 0.0,
        metrics: Mapping[str, Callable[..., tf.Tensor]] | None = None,
        name: str = "image_multilabel",
    ) -> None:
        self.name = name
        self.classes = classes
        self.outputs = len(classes)
        self.label_smoothing = label_smoothing
        self.sums = MultilabelSums(self.outputs, metrics)

    def losses(self, labels: tf.Tensor, logits: tf.Tensor, training: bool) -> tf.Tensor:
        """float32 [b] of targets and logits [b, labels]; 0 where no label is known."""
        logits = tf.cast(logits, tf.float32)
        known = tf.cast(labels >= 0, tf.float32)
        target = tf.maximum(labels, 0.0)
        if training and self.label_smoothing:
            target = target * (1.0 - self.label_smoothing) + self.label_smoothing / 2
        each = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
        # The product, not a division by 0, is what an example with nothing known comes to.
        return tf.reduce_sum(known * each, -1) / tf.maximum(tf.reduce_sum(known, -1), 1.0)

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """float32 [b, labels], each in [0, 1]; they do not add up to 1."""
        return tf.sigmoid(tf.cast(logits, tf.float32))


class MultilabelSums:
    """Figures of several labels at once, as sums; see :class:`.metrics.ClassificationSums`.

    A label is taken as present from a probability of one half on.  For the area under the curve
    the probabilities of examples with and without a label are counted in 200 bins.

    Args:
        labels: how many there are.
        extra: the user's metrics: name to ``(targets, probabilities) -> [b]``, of [b, labels] both.
    """

    def __init__(
        self, labels: int, extra: Mapping[str, Callable[..., tf.Tensor]] | None = None
    ) -> None:
        self.labels = labels
        self.extra = dict(extra or {})

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        each = (self.labels,)
        return {
            "loss_sum": (),
            "weight_sum": (),
            "count": (),
            "exact": (),
            "hits": each,
            "predicted": each,
            "actual": each,
            "known": each,
            "right": each,
            "with": (self.labels, _BINS),
            "without": (self.labels, _BINS),
            **{f"extra/{name}": () for name in self.extra},
        }

    def names(self) -> Sequence[str]:
        """Names of the sums, in a fixed order."""
        return tuple(self._shapes())

    def figure_names(self) -> Sequence[str]:
        """Names of the figures that :meth:`result` gives."""
        own = ("loss", "accuracy", "precision", "recall", "f1", "micro_f1")
        return (*own, "exact_accuracy", "auc", *self.extra)

    def zeros(self) -> dict[str, np.ndarray]:
        """The sums before the first batch, float64."""
        return {name: np.zeros(shape, np.float64) for name, shape in self._shapes().items()}

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
            labels: float32 [b, labels], see :class:`Multilabel`; logits: float32 [b, labels];
            losses: float32 [b], not weighted; mask: float32 [b], 0 for padding; weight: float32
            [b].
        """
        mask64 = tf.cast(mask, tf.float64)
        probabilities = tf.sigmoid(tf.cast(logits, tf.float32))
        known = mask64[:, None] * tf.cast(labels >= 0, tf.float64)
        actual = known * tf.cast(labels > 0.5, tf.float64)
        guess = tf.cast(logits >= 0, tf.float64)
        wrong = known * tf.abs(guess - tf.cast(labels > 0.5, tf.float64))
        exact = mask64 * tf.cast(tf.reduce_sum(wrong, -1) == 0, tf.float64)
        sums = {
            "loss_sum": tf.reduce_sum(mask64 * tf.cast(weight * losses, tf.float64)),
            "weight_sum": tf.reduce_sum(mask64 * tf.cast(weight, tf.float64)),
            "count": tf.reduce_sum(mask64),
            "exact": tf.reduce_sum(exact),
            "hits": tf.reduce_sum(actual * guess, 0),
            "predicted": tf.reduce_sum(known * guess, 0),
            "actual": tf.reduce_sum(actual, 0),
            "known": tf.reduce_sum(known, 0),
            "right": tf.reduce_sum(known - wrong, 0),
            "with": self._histogram(probabilities, actual),
            "without": self._histogram(probabilities, known - actual),
        }
        for name, metric in self.extra.items():
            values = tf.cast(metric(labels, probabilities), tf.float64)
            sums[f"extra/{name}"] = tf.reduce_sum(mask64 * values)
        return sums

    def _histogram(self, probabilities: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        """float64 [labels, bins]."""
        bins = tf.clip_by_value(tf.cast(probabilities * _BINS, tf.int32), 0, _BINS - 1)
        of = bins + tf.range(self.labels)[None] * _BINS
        flat = tf.math.unsorted_segment_sum(
            tf.reshape(counted, [-1]), tf.reshape(of, [-1]), self.labels * _BINS
        )
        return tf.reshape(flat, [self.labels, _BINS])

    def result(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Figures of the sums.

        ``accuracy`` is the part of the known labels that are right, ``exact_accuracy`` that of the
        examples with no wrong one.  ``precision``, ``recall`` and ``f1`` are means over the labels
        that occur among targets or predictions, ``auc`` over those with examples of both kinds
        (0.5, as by chance, without one); ``micro_f1`` takes all labels together.
        """
        count = float(sums["count"])
        if count == 0:
            return {}
        hits, predicted, actual = sums["hits"], sums["predicted"], sums["actual"]
        both = predicted + actual
        seen = both > 0
        figures = {
            "loss": float(sums["loss_sum"]) / count,
            "accuracy": float(_ratio(sums["right"].sum(), sums["known"].sum())),
            "precision": _mean(_ratio(hits, predicted)[seen], 0.0),
            "recall": _mean(_ratio(hits, actual)[seen], 0.0),
            "f1": _mean(_ratio(2 * hits, both)[seen], 0.0),
            "micro_f1": float(_ratio(2 * hits.sum(), both.sum())),
            "exact_accuracy": float(sums["exact"]) / count,
            "auc": _auc(sums["with"], sums["without"]),
        }
        for name in self.extra:
            figures[name] = float(sums[f"extra/{name}"]) / count
        return figures


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part = np.asarray(part, np.float64)
    return np.divide(part, whole, out=np.zeros_like(part), where=np.asarray(whole) > 0)


def _mean(values: np.ndarray, without: float) -> float:
    return float(values.mean()) if values.size else without


def _auc(having: np.ndarray, lacking: np.ndarray) -> float:
    """Mean over labels of the chance that one with the label is ranked above one without.

    Two in one bin count as a tie, one half (Mann and Whitney's U).
    """
    below = np.cumsum(lacking, axis=1) - lacking / 2
    pairs = having.sum(1) * lacking.sum(1)
    wins = (having * below).sum(1)
    return _mean(wins[pairs > 0] / pairs[pairs > 0], 0.5)
