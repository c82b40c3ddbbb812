"""Numbers: one linear output for each target, learned in units of the target's own spread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from harness.data.regression import Scaling
from harness.model.metrics import Sums

_FIGURES = ("mae", "rmse", "r2")


class Regression:
    """Squared error of standardised targets.

    Targets are float32 [b, targets], ``(t - mean) / std``, nan where not known.  What is not known
    counts neither in the loss nor in a figure.  The loss of an example is the mean over its known
    targets, so that each example counts once, however many of its targets are known.

    Args:
        classes: names of the targets, in the order of the columns.
        scaling: their means and deviations, in the user's units.
        metrics: the user's per-example metrics by name.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        scaling: Scaling,
        *,
        metrics: Mapping[str, Callable[..., tf.Tensor]] | None = None,
        name: str = "image_regression",
    ) -> None:
        self.name = name
        self.classes = classes
        self.outputs = len(classes)
        self.scaling = scaling
        self.sums = RegressionSums(classes, scaling, metrics)

    def losses(self, labels: tf.Tensor, logits: tf.Tensor, training: bool) -> tf.Tensor:
        """float32 [b] of targets and outputs [b, targets]; 0 where no target is known."""
        known, error = _errors(labels, tf.cast(logits, tf.float32))
        # The product, not a division by 0, is what an example with nothing known comes to.
        return tf.reduce_sum(error * error, -1) / tf.maximum(tf.reduce_sum(known, -1), 1.0)

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """float32 [b, targets]: what the model says of each target, in the user's units."""
        return in_units(logits, self.scaling)


class RegressionSums:
    """Figures of a regression, as sums; see :class:`.metrics.ClassificationSums`.

    Sums are of standardised numbers, in which none cancels another; figures are in the user's
    units.

    Args:
        targets: their names.
        scaling: their means and deviations.
        extra: the user's metrics: name to ``(targets, predictions) -> [b]``, of [b, targets] both,
            in the user's units, and nan where a target is not known.
    """

    def __init__(
        self,
        targets: tuple[str, ...],
        scaling: Scaling,
        extra: Mapping[str, Callable[..., tf.Tensor]] | None = None,
    ) -> None:
        self.targets, self.scaling = targets, scaling
        self.extra = dict(extra or {})

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        each = (len(self.targets),)
        return {
            "loss_sum": (),
            "weight_sum": (),
            "count": (),
            "known": each,
            "absolute": each,
            "squared": each,
            "total": each,
            "total_squared": each,
            **{f"extra/{name}": () for name in self.extra},
        }

    def names(self) -> Sequence[str]:
        """Names of the sums, in a fixed order."""
        return tuple(self._shapes())

    def figure_names(self) -> Sequence[str]:
        """Names of the figures that :meth:`result` gives where each target is known of some."""
        several = self.targets if len(self.targets) > 1 else ()
        own = [f"{target}_{figure}" for target in several for figure in _FIGURES]
        return ("loss", *_FIGURES, *own, *self.extra)

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
            labels: float32 [b, targets], see :class:`Regression`; logits: float32 [b, targets];
            losses: float32 [b], not weighted; mask: float32 [b], 0 for padding; weight: float32
            [b].
        """
        mask64 = tf.cast(mask, tf.float64)
        known, error = (
            mask64[:, None] * tf.cast(each, tf.float64)
            for each in _errors(labels, tf.cast(logits, tf.float32))
        )
        target = tf.where(known > 0, tf.cast(labels, tf.float64), 0.0)
        sums = {
            "loss_sum": tf.reduce_sum(mask64 * tf.cast(weight * losses, tf.float64)),
            "weight_sum": tf.reduce_sum(mask64 * tf.cast(weight, tf.float64)),
            "count": tf.reduce_sum(mask64),
            "known": tf.reduce_sum(known, 0),
            "absolute": tf.reduce_sum(tf.abs(error), 0),
            "squared": tf.reduce_sum(error * error, 0),
            "total": tf.reduce_sum(target, 0),
            "total_squared": tf.reduce_sum(target * target, 0),
        }
        for name, metric in self.extra.items():
            # What is nan stays nan.
            given = in_units(labels, self.scaling), in_units(logits, self.scaling)
            values = tf.cast(metric(*given), tf.float64)
            sums[f"extra/{name}"] = tf.reduce_sum(mask64 * values)
        return sums

    def result(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Figures of the sums.

        ``mae``, ``rmse`` and ``r2`` are means over the targets that are known of some example;
        with several targets there are those of each, as ``NAME_mae``.  ``r2`` is 1 - (sum of
        squared errors) / (sum of squared distances of the targets from their mean); where that is
        0 it is 1 without errors, else 0 (scikit-learn's ``force_finite``).
        """
        count = float(sums["count"])
        if count == 0:
            return {}
        each = {
            target: self._of(
                at, {name: float(value[at]) for name, value in sums.items() if value.ndim}
            )
            for at, target in enumerate(self.targets)
            if sums["known"][at] > 0
        }
        figures = {"loss": float(sums["loss_sum"]) / count}
        for name in _FIGURES:
            if each:
                figures[name] = float(np.mean([found[name] for found in each.values()]))
        if len(self.targets) > 1:
            figures |= {
                f"{t}_{name}": value for t, one in each.items() for name, value in one.items()
            }
        for name in self.extra:
            figures[name] = float(sums[f"extra/{name}"]) / count
        return figures

    def _of(self, at: int, sums: Mapping[str, float]) -> dict[str, float]:
        """The figures of one target."""
        known, std = sums["known"], self.scaling.std[at]
        spread = max(0.0, sums["total_squared"] - sums["total"] ** 2 / known)
        without = 1.0 if sums["squared"] == 0 else 0.0
        # What rounding leaves of equal numbers is no spread.
        even = spread <= 1e-12 * sums["total_squared"]
        return {
            "mae": std * sums["absolute"] / known,
            "rmse": std * float(np.sqrt(sums["squared"] / known)),
            "r2": without if even else 1.0 - sums["squared"] / spread,
        }


def in_units(standardised: tf.Tensor, scaling: Scaling) -> tf.Tensor:
    """float32 [b, targets] in the user's units."""
    std, mean = (tf.constant(each, tf.float32) for each in (scaling.std, scaling.mean))
    return tf.cast(standardised, tf.float32) * std + mean


def _errors(labels: tf.Tensor, outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 [b, targets] both: 1 where a target is known, and how far the output is from it."""
    known = tf.logical_not(tf.math.is_nan(labels))
    # Not a product with what is known: nan times 0 is nan, in the gradient too.
    error = outputs - tf.where(known, labels, 0.0)
    return tf.cast(known, tf.float32), tf.where(known, error, 0.0)
