"""One process, several devices: TensorFlow's MirroredStrategy."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tensorflow as tf

from harness.distribute.strategies import OfStrategy
from harness.distribute.topology import Topology


class Mirrored(OfStrategy):
    """The :class:`~harness.distribute.base.Distribution` of the devices of one process.

    Args:
        devices: TensorFlow device names (``/GPU:0``, ``/GPU:1``), two or more.
    """

    name = "mirrored"

    def __init__(self, devices: Sequence[str], topology: Topology | None = None) -> None:
        super().__init__(_strategy(tuple(devices)), topology or Topology())


@functools.cache
def _strategy(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    # Two of them in one process number their sums alike, and TensorFlow refuses the second's where
    # the shapes are others: a process that trains two runs makes one.
    return tf.distribute.MirroredStrategy(list(devices))
