"""The C library's heap under TensorFlow's distributed data sets.

Their iterators hold a ``GeneratorDataset``, and the first of those in a process has glibc map every
block above 128 kB anew and unmap it when it is freed (TensorFlow means to spare programs that feed
from Python generators).  From then on each tensor of a step on a CPU is made of fresh pages: steps
that fine-tune MobileNetV2 took 2.2 times as long (batch 32 at 96 px on one core, TensorFlow 2.21).
"""

from __future__ import annotations

import ctypes

import tensorflow as tf

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 32 << 20
"""The threshold at which glibc arrives by itself where large blocks come and go (mallopt(3))."""


def keep_heap() -> None:
    """Gives the heap the thresholds of a process that has no such data set, for good.

    Computes something, so it is to be called after the strategy has been made.  Does nothing
    where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    # It is done once in a process; afterwards nobody takes back what is set here.
    with tf.device("/CPU:0"):
        one = tf.data.Dataset.from_generator(lambda: iter([0]), output_signature=_ONE)
        next(iter(one))
    mallopt(_M_MMAP_THRESHOLD, _LARGEST)
    mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST)


_ONE = tf.TensorSpec([], tf.int32)
