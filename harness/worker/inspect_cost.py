"""What one call of a backbone costs, and the batch that it is called with."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

    from harness.model.blocks import Takes

_BATCH, _TIMES = 8, 5


def batch_of(takes: Takes) -> Any:
    """Eight examples: texts, zeros, or of tokens ones (a mask of zeros would leave nothing)."""
    import tensorflow as tf

    if isinstance(takes, dict):
        return {name: tf.ones([_BATCH, *one.shape], one.dtype) for name, one in takes.items()}
    if takes.dtype == tf.string:
        return tf.constant(["a sentence of seven words, or so"] * _BATCH)
    return tf.zeros([_BATCH, *takes.shape], takes.dtype)


def operations(call: Any, takes: Takes) -> int | None:
    """Of one example, as TensorFlow's profiler counts those of a frozen graph; None of texts, where
    they hang on the length."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    if not isinstance(takes, dict) and takes.dtype == tf.string:
        return None
    one = tf.nest.map_structure(lambda spec: tf.TensorSpec([1, *spec.shape], spec.dtype), takes)
    traced = call.get_concrete_function(one)
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # the profiler warns of what it uses itself
    frozen = convert_to_constants.convert_variables_to_constants_v2(traced)
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    quiet = options.with_empty_output().build()
    found = profiler.profile(frozen.graph, options=quiet)
    logger.setLevel(level)
    return int(found.total_float_ops) or None


def seconds(forward: Callable[[], Any]) -> float:
    """For each of eight examples, the median of some forward passes after a first one."""
    times = []
    for _ in range(_TIMES + 1):
        began = time.perf_counter()
        forward()
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[_TIMES // 2] / _BATCH


def scalars(variable: tf.Variable) -> int:
    """Numbers in a variable."""
    return int(variable.shape.num_elements() or 0)
