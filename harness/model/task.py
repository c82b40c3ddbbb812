"""What the model is asked: outputs, loss, metrics and predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import tensorflow as tf

from harness.data.regression import Scaling
from harness.errors import SpecError
from harness.model.metrics import ClassificationSums
from harness.model.multilabel import Multilabel, MultilabelSums
from harness.model.regression import Regression, RegressionSums
from harness.plugins import PREFIX, registry
from harness.spec.models_model import REGRESSIONS
from harness.tracing import rewritten


class Task(Protocol):
    """What the loop, the metrics and the prediction need to know of a task."""

    name: str
    classes: tuple[str, ...]
    outputs: int

    @property
    def sums(self) -> ClassificationSums | MultilabelSums | RegressionSums:
        """The figures, as sums."""
        ...

    def losses(self, labels: tf.Tensor, logits: tf.Tensor, training: bool) -> tf.Tensor:
        """float32 [b]: the loss of each example, neither weighted nor masked."""
        ...

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """float32 [b, outputs] in [0, 1]; of a regression the numbers, in their units."""
        ...


class Classification:
    """One label of several classes: softmax cross-entropy on logits.

    Args:
        classes: names in the order of the label numbers.
        label_smoothing: share taken from the true class and spread over all (Szegedy et al.,
            2016); used in training, not in evaluation.
        metrics: the user's per-example metrics by name.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        *,
        label_smoothing: float = 0.0,
        metrics: Mapping[str, Callable[..., tf.Tensor]] | None = None,
        name: str = "image_classification",
    ) -> None:
        self.name = name
        self.classes = classes
        self.outputs = len(classes)
        self.label_smoothing = label_smoothing
        self.sums = ClassificationSums(self.outputs, metrics)

    def losses(self, labels: tf.Tensor, logits: tf.Tensor, training: bool) -> tf.Tensor:
        # float32 whatever the model computes in: exp and log lose too much in 16 bits.
        logits = tf.cast(logits, tf.float32)
        if not (training and self.label_smoothing):
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        smooth = self.label_smoothing
        target = tf.one_hot(labels, self.outputs, on_value=1.0 - smooth) + smooth / self.outputs
        return tf.nn.softmax_cross_entropy_with_logits(target, logits)

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(tf.cast(logits, tf.float32))


def make_task(
    name: str,
    classes: tuple[str, ...],
    *,
    label_smoothing: float,
    metrics: Mapping[str, Mapping[str, Any]],
    scaling: Scaling | None = None,
) -> Task:
    """The task of a spec.

    Args:
        name: ``MEDIUM_classification``, ``MEDIUM_multilabel``, ``MEDIUM_regression`` or
            ``plugin:NAME``, whose callable is called with ``(classes, label_smoothing=...,
            metrics=...)``.
        metrics: names of metric plug-ins to their options.
        scaling: of a regression, whose ``classes`` are its targets.

    Raises:
        SpecError: a plug-in task lacks what :class:`Task` asks.
    """
    functions = {
        metric.removeprefix(PREFIX): _bind(registry.get("metric", metric), options)
        for metric, options in metrics.items()
    }
    if name in REGRESSIONS:
        assert scaling is not None, "who opens the data or the run has it"
        return Regression(classes, scaling, metrics=functions, name=name)
    if not name.startswith(PREFIX):
        kind = Multilabel if name.endswith("_multilabel") else Classification
        return kind(classes, label_smoothing=label_smoothing, metrics=functions, name=name)
    task = registry.get("task", name)(classes, label_smoothing=label_smoothing, metrics=functions)
    wanted = ("name", "classes", "outputs", "sums", "losses", "probabilities")
    missing = [part for part in wanted if not hasattr(task, part)]
    if missing:
        raise SpecError(
            "the task plug-in is incomplete",
            got=f"no {', '.join(missing)}",
            allowed=", ".join(wanted),
            action="derive it from harness.model.task.Classification",
            path="task",
        )
    for owner, part in ((task, "losses"), (task, "probabilities"), (task.sums, "update")):
        setattr(owner, part, rewritten(getattr(owner, part)))
    return task


def _bind(metric: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Any]:
    own = rewritten(metric)
    return lambda labels, probabilities: own(labels, probabilities, **options)
