"""Metrics of a model over a data set, each example counted exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from harness.data.content import examples_in
from harness.distribute.base import Distribution
from harness.distribute.loops import repeat
from harness.distribute.pace import Pace
from harness.model.task import Task
from harness.tracing import as_written


class Evaluator:
    """Evaluates one model; compiled once, used after every epoch.

    Args:
        keras: examples to logits.
        task: gives losses and metric sums.
        distribution: brings replicas together.
    """

    def __init__(self, keras: tf_keras.Model, task: Task, distribution: Distribution) -> None:
        self._keras = keras
        self._task = task
        self._distribution = distribution
        self._again: tuple[tf.data.Dataset, int, Iterator[dict[str, tf.Tensor]]] | None = None
        with tf.device("/CPU:0"):
            self._sums = {
                name: tf.Variable(zero, trainable=False) for name, zero in task.sums.zeros().items()
            }

        @tf.function(reduce_retracing=True)
        @as_written
        def many(iterator: Iterator[dict[str, tf.Tensor]], batches: tf.Tensor) -> None:
            repeat(batches, lambda _: self._one(next(iterator)))

        self._many = many

    def _one(self, batch: dict[str, tf.Tensor]) -> None:
        sums = self._distribution.run_sums(self._on_replica, batch)
        for name, variable in self._sums.items():
            variable.assign_add(sums[name])

    @as_written
    def _on_replica(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        logits = self._keras(examples_in(batch), training=False)
        losses = self._task.losses(batch["label"], logits, training=False)
        return self._task.sums.update(
            batch["label"], logits, losses, batch["mask"], batch["weight"]
        )

    def run(
        self,
        dataset: tf.data.Dataset,
        batches: int,
        between: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Figures over one pass of ``dataset``.

        Args:
            dataset: its first ``batches`` batches; the same object for the same data, since to
                begin another takes as long as some dozen pictures do.
            between: called about once a second between batches; what it raises ends the
                evaluation (a stop that must not wait for a long validation).
        """
        for variable in self._sums.values():
            variable.assign(tf.zeros_like(variable))
        (iterator, endless), done = self._begin(dataset, batches), 0
        pace = Pace(agree=self._distribution.first)
        while done < batches:
            steps = pace.next(batches - done)
            began = time.monotonic()
            self._many(iterator, tf.constant(steps))
            pace.done(steps, time.monotonic() - began)
            done += steps
            between()
        self._again = (dataset, batches, iterator) if endless else None
        # The ranks come together once, at the end: each has counted its own rows.
        names = list(self._sums)
        parts = [np.asarray(self._sums[name].numpy(), np.float64) for name in names]
        total = self._distribution.sum_ranks(np.concatenate([part.reshape(-1) for part in parts]))
        ends = np.cumsum([part.size for part in parts])[:-1]
        shaped = zip(names, np.split(total, ends), parts, strict=True)
        return self._task.sums.result({n: each.reshape(part.shape) for n, each, part in shaped})

    def _begin(
        self, dataset: tf.data.Dataset, batches: int
    ) -> tuple[Iterator[dict[str, tf.Tensor]], bool]:
        """The batches of a pass, and whether those of the next one follow, unless it is broken off.

        They follow where nothing is made ready for a device ahead of what is asked for: else memory
        would be held from pass to pass, for one that may never come.
        """
        again, self._again = self._again, None
        if again is not None and again[0] is dataset and again[1] == batches:
            return again[2], True
        shared = self._distribution.share(dataset)
        if shared is dataset:
            return iter(dataset.take(batches).repeat()), True
        return iter(shared), False
