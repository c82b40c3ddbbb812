"""What a training step computes in: TensorFlow's graph rewriters set, and their work counted.

A Keras policy does not reach into a SavedModel, whose operations have their dtypes written in.
What does are the rewriters that TensorFlow runs over the whole graph before its first execution.
Their switches belong to the process, a name that TensorFlow does not know is ignored in silence,
and a rewriter that finds nothing says nothing: so switches are read back, and operations counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import tensorflow as tf

from harness.errors import EnvironmentNotAble
from harness.tracing import as_written

REWRITERS = {
    "mixed_float16": "auto_mixed_precision",
    "mixed_bfloat16": "auto_mixed_precision_onednn_bfloat16",
}
"""TensorFlow's switch for each precision; the first works on GPUs, the second on CPUs."""
_LOW = (tf.float16.as_datatype_enum, tf.bfloat16.as_datatype_enum)
_FLOATS = (*_LOW, tf.float32.as_datatype_enum, tf.float64.as_datatype_enum)
# Products of matrices, forwards and backwards, alone or fused with what follows them.
_PRODUCT = re.compile(
    r"(_Fused|Fused)?(Conv[23]D|DepthwiseConv2dNative|MatMul|BatchMatMul|Einsum)"
    r"(Backprop(Input|Filter))?(V[23])?$|CudnnRNN|BlockLSTM|LSTMBlock|GRUBlock"
)


class Counted(NamedTuple):
    """Products of matrices (convolutions too) in graphs, and how many of them in 16 bits."""

    low: int
    all: int

    @property
    def share(self) -> float:
        """Of the operations, each counted as one however large it is."""
        return self.low / self.all if self.all else 0.0


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Graphs that are first executed within compute in ``precision``; afterwards as before.

    Raises:
        EnvironmentNotAble: this TensorFlow does not have the switch.
    """
    before = tf.config.optimizer.get_experimental_options()
    off = {switch: bool(before.get(switch, False)) for switch in REWRITERS.values()}
    set_precision(precision)
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options(off)


def set_precision(precision: str) -> None:
    """Has graphs that are first executed from now on compute in ``precision``.

    Raises:
        EnvironmentNotAble: this TensorFlow does not have the switch.
    """
    wanted = {switch: name == precision for name, switch in REWRITERS.items()}
    tf.config.optimizer.set_experimental_options(wanted)
    known = tf.config.optimizer.get_experimental_options()
    switch = REWRITERS.get(precision)
    if switch is not None and not known.get(switch, False):
        raise EnvironmentNotAble(
            f"this TensorFlow cannot compute in {precision}",
            got=f"TensorFlow {tf.__version__} without {switch}",
            allowed="a version that has it, or float32",
            action="set training.precision: float32",
            path="training.precision",
        )


@contextmanager
def collected() -> Iterator[list[Any]]:
    """Gathers the graphs, as optimised, of the functions that are first executed within.

    The list is filled at the end.
    """
    # No public function of TensorFlow gives optimised graphs.
    from tensorflow.python.eager import context

    with context.collect_graphs(optimized=True) as graphs:
        yield graphs


def count(graphs: Iterable[Any]) -> Counted:
    """Counts the products of matrices in graphs (``GraphDef``) and all that these call."""
    found = [dtype for graph in graphs for dtype in _dtypes(graph)]
    return Counted(sum(dtype in _LOW for dtype in found), len(found))


def _dtypes(graph: Any) -> Iterator[int]:
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    for node in nodes:
        if _PRODUCT.match(node.op) and node.attr["T"].type in _FLOATS:
            yield node.attr["T"].type


def tried(precision: str) -> Counted:
    """What TensorFlow makes of a small convolution and product in ``precision`` on this machine."""

    @tf.function
    @as_written
    def probe(pictures: tf.Tensor, kernel: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
        made = tf.nn.relu(tf.nn.conv2d(pictures, kernel, 1, "SAME"))
        return tf.reduce_sum(tf.matmul(tf.reshape(made, [-1, 16]), matrix))

    with computing_in(precision), collected() as graphs:
        probe(tf.ones([1, 8, 8, 16]), tf.ones([3, 3, 16, 16]), tf.ones([16, 16]))
    return count(graphs)
