"""A tiny model to step with, of one process: dropout, class weights, a penalty, odd masks."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from harness.model.draws import Draws, Dropout
from harness.model.norm import SyncBatchNorm
from harness.model.task import Classification
from harness.train.plan import Phase
from harness.train.step import Steps

CLASSES = ("a", "b", "c")
BATCH = 16
FEATURES = 6
POISON = 1e6


class Stepper:
    """Steps on one distribution, from the same weights each time it is made.

    Args:
        kind: makes the steps; called as :class:`Steps`.
    """

    def __init__(
        self,
        distribution: Any,
        *,
        accumulate: int = 1,
        dropout: float = 0.4,
        norm: bool = False,
        kind: Any = Steps,
    ) -> None:
        self.distribution = distribution
        self.draws = Draws(5, distribution)
        with distribution.scope():
            tf_keras.utils.set_random_seed(11)
            inputs = tf_keras.Input((FEATURES,))
            x = tf_keras.layers.Dense(
                8,
                use_bias=not norm,  # a norm makes its gradient nothing but rounding
                kernel_regularizer=tf_keras.regularizers.L2(0.05),
                name="hidden",
            )(inputs)
            if norm:
                x = SyncBatchNorm(distribution, momentum=0.5, name="norm")(x)
            x = tf_keras.layers.Lambda(poisoned)(x)
            x = Dropout(dropout, self.draws, 0)(tf_keras.layers.Activation("tanh")(x))
            self.keras = tf_keras.Model(inputs, tf_keras.layers.Dense(3, name="out")(x))
            self.optimizer = tf_keras.optimizers.SGD(0.0, momentum=0.9, jit_compile=False)
        model: Any = SimpleNamespace(
            keras=self.keras,
            task=Classification(CLASSES),
            draws=self.draws,
            trainable=lambda phase=None: list(self.keras.trainable_variables),
            enter=lambda phase: None,
            called_on=lambda batch: self.keras,
            alignment=None,
        )
        self.steps = kind(model, self.optimizer, distribution, BATCH, accumulate)
        self.accumulate = accumulate
        self._many = self.steps.compile(Phase(0, "one", 1, 1000, 1, 0.1, 0, "constant", "last"))

    def train(self, batches: list[dict[str, np.ndarray]], calls: int = 1) -> dict[str, Any]:
        """Steps over global batches; weights, slots and sums afterwards."""
        parted = self._parted(batches)
        dataset = tf.data.Dataset.from_generator(
            # TensorFlow takes an array as it lies in memory, and may write into it.
            lambda: ({name: rows.copy() for name, rows in each.items()} for each in parted),
            output_signature={
                name: tf.TensorSpec(value.shape, value.dtype) for name, value in parted[0].items()
            },
        )
        iterator = iter(self.distribution.share(dataset))
        for _ in range(calls):
            self._many(iterator, tf.constant(len(batches) // calls))
        return self.state()

    def state(self) -> dict[str, Any]:
        return {
            **{w.name: w.numpy().copy() for w in self.keras.weights},
            **{f"slot {v.name}": v.numpy().copy() for v in self.optimizer.variables},
            **{f"sum {name}": value for name, value in self.steps.sums().items()},
        }

    def _parted(self, batches: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """As the feed gives them: a part holds a piece of each device's range."""
        devices, parts = self.distribution.local_replicas, self.accumulate

        def cut(rows: np.ndarray) -> np.ndarray:
            shape = rows.shape[1:]
            cuts = rows.reshape(devices, parts, -1, *shape).swapaxes(0, 1)
            return cuts.reshape(parts, -1, *shape)

        return list(_turned([{name: cut(rows) for name, rows in each.items()} for each in batches]))


@tf.custom_gradient
def poisoned(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """The same; but the gradient of a value beyond :data:`POISON` is infinite."""
    return tf.identity(x), lambda dy: tf.where(tf.abs(x) > POISON, float("inf"), dy)


def poison(batch: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    """The batch with an example of mask 0, so with no part in the loss, that poisons gradients."""
    image, mask = batch["image"].copy(), batch["mask"].copy()
    image[row], mask[row] = 100.0 * POISON, 0.0
    return {**batch, "image": image, "mask": mask}


def _turned(batches: list[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    for batch in batches:
        for part in range(len(batch["mask"])):
            yield {name: rows[part] for name, rows in batch.items()}


def batches(count: int, *, ragged: bool = True, seed: int = 2) -> list[dict[str, np.ndarray]]:
    """Global batches with class weights; the last one has three examples and padding."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        label = rng.integers(0, 3, BATCH).astype(np.int32)
        mask = np.ones(BATCH, np.float32)
        if ragged and number == count - 1:
            mask[3:] = 0.0
        elif ragged and number == 0:
            mask[[1, 6, 15]] = 0.0  # files that could not be read
        made.append(
            {
                "image": rng.normal(0.5, 1.0, (BATCH, FEATURES)).astype(np.float32),
                "label": label,
                "mask": mask,
                "weight": np.array([0.5, 1.0, 2.5], np.float32)[label],
            }
        )
    return made


def assert_close(one: dict[str, Any], other: dict[str, Any], rtol: float, atol: float) -> None:
    """Equal but for sums in another order."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=rtol, atol=atol, err_msg=name)
