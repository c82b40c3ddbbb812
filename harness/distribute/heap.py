"""The C library's heap under steps that compute on CPUs.

Each operation of a step asks for its tensors and gives them back.  With glibc's own settings much
of that memory goes back to the system each time, and comes again as fresh pages that the kernel has
to clear: see :func:`hold_pages` and :func:`undo_mapping`.
"""

from __future__ import annotations

import ctypes

import tensorflow as tf

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 32 << 20
"""The threshold at which glibc arrives by itself where large blocks come and go (mallopt(3)); it
takes no larger one, so blocks above it are mapped anew each time whatever is set here."""
_HEAP = 64 << 20
"""Of a heap of another thread than the main one: a whole one is given back when it is empty, unless
the pad is as large."""


def hold_pages() -> None:
    """Has freed memory stay with the process, for its next tensors; touches none by itself.

    Steps of Horovod, whose operations go on in threads with heaps of their own, took 1.15 times
    as long without (MobileNetV2, batch 32 at 96 px on one core).  Does nothing where the C library
    is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (
            (_M_MMAP_THRESHOLD, _LARGEST),
            (_M_TRIM_THRESHOLD, 2 * _LARGEST),
            (_M_TOP_PAD, _HEAP),
        ):
            mallopt(parameter, value)


def undo_mapping() -> None:
    """Takes back what TensorFlow's distributed data sets do to the heap, for good.

    Their iterators hold a ``GeneratorDataset``, and the first of those in a process has glibc map
    every block above 128 kB anew (TensorFlow means to spare programs that feed from Python
    generators).  Steps took 2.2 times as long from then on (the same step, TensorFlow 2.21).
    Computes something, so it is to be called after a strategy has been made.
    """
    # It is done once in a process; afterwards nobody changes what is set here.
    with tf.device("/CPU:0"):
        one = tf.data.Dataset.from_generator(lambda: iter([0]), output_signature=_ONE)
        next(iter(one))
    hold_pages()


_ONE = tf.TensorSpec([], tf.int32)
