"""One process, several devices: TensorFlow's MirroredStrategy."""

from __future__ import annotations

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
        super().__init__(tf.distribute.MirroredStrategy(list(devices)), topology or Topology())
