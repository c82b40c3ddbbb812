"""Random draws inside a step, as a pure function of (seed, step, layer).

A Keras ``Dropout`` draws from a generator whose state no checkpoint holds, so a resumed process
repeats its first mask.  Here a draw is made for the whole global batch and each replica takes
its own rows: neither a resume nor the number of replicas changes it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from harness.model import philox
from harness.tracing import as_written

if TYPE_CHECKING:
    from harness.distribute.base import Distribution


# What TensorFlow takes by itself on CPUs and on GPUs; left to itself XLA takes another.
_ALGORITHM = "philox"


class Draws:
    """Gives layers their random numbers.

    Args:
        seed: ``training.seed``.
        distribution: tells which replica is calling.

    ``step`` (int64 scalar variable) is set by the training step before the model is called, and
    so are ``parts`` and ``part`` where a replica computes its rows in several parts.  Where rows of
    ``streams`` batches lie behind one another in what a layer is given (the source's and the
    target's), each stream has draws of its own.  Where XLA compiles the model, ``now`` is the value
    of ``step``; else it is None.

    ``part`` and ``now`` count for the thread that sets them: the replicas of a process are traced
    by a thread each, in turns, as far as their next reduction.
    """

    parts: int = 1
    streams: int = 1

    def __init__(self, seed: int, distribution: Distribution) -> None:
        self._seed = seed
        self.distribution = distribution
        self._here = threading.local()
        with tf.device("/CPU:0"):
            self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="draws/step")

    @property
    def part(self) -> int | tf.Tensor:
        """See the class."""
        return getattr(self._here, "part", 0)

    @part.setter
    def part(self, part: int | tf.Tensor) -> None:
        self._here.part = part

    @property
    def now(self) -> tf.Tensor | None:
        """See the class."""
        return getattr(self._here, "now", None)

    @now.setter
    def now(self, step: tf.Tensor | None) -> None:
        self._here.now = step

    def seed_of(self, layer: int) -> tf.Tensor:
        """int32 [2]: the stateless seed of ``layer`` in the present step."""
        seed = tf.constant([self._seed & 0x7FFFFFFF, self._seed >> 31], tf.int32)
        step = self.step if self.now is None else self.now
        return self._fold_in(self._fold_in(seed, step), layer)

    @staticmethod
    def _fold_in(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
        fold_in = tf.random.fold_in if hasattr(tf.random, "fold_in") else None
        fold_in = fold_in or tf.random.experimental.stateless_fold_in
        return fold_in(seed, number, alg=_ALGORITHM)

    def uniform(self, like: tf.Tensor, layer: int) -> tf.Tensor:
        """float32 in [0, 1) of the shape of ``like`` [b, ...], this replica's rows of the draw.

        The draw has ``replicas * parts * b`` rows: every replica holds the same static batch.
        """
        shape = tf.shape(like)
        rows = shape[0] // self.streams
        replicas = self.distribution.replicas
        own = tf.concat([[rows], shape[1:]], axis=0)
        start = rows * (self.distribution.replica() * self.parts + self.part)
        whole = tf.concat([[rows * replicas * self.parts], shape[1:]], axis=0)

        def mine(seed: tf.Tensor) -> tf.Tensor:
            if self.now is not None:
                return philox.uniform(seed, start * tf.reduce_prod(shape[1:]), own)
            drawn = tf.random.stateless_uniform(whole, seed, alg=_ALGORITHM)
            return drawn[start : start + rows]

        seed = self.seed_of(layer)
        if self.streams == 1:
            return mine(seed)
        further = [self._fold_in(seed, stream) for stream in range(1, self.streams)]
        return tf.concat([mine(each) for each in (seed, *further)], axis=0)


class Dropout(tf_keras.layers.Layer):
    """Dropout whose mask is a pure function of (seed, step, layer).

    Inverted dropout: kept units are scaled by ``1 / (1 - rate)`` (Srivastava et al., 2014), so
    that inference needs no scaling.

    Args:
        rate: share of the units that are set to 0, in [0, 1).
        draws: where the random numbers come from.
        index: number of this layer among those that draw; part of its seed.
    """

    def __init__(self, rate: float, draws: Draws, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rate = rate
        self._draws = draws
        self._index = index

    @as_written
    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self._rate == 0.0:
            return inputs
        kept = self._draws.uniform(inputs, self._index) >= self._rate
        return tf.where(kept, inputs / (1.0 - self._rate), tf.zeros_like(inputs))

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self._rate, "index": self._index}
