"""Finds random numbers that come from hidden state, which a resumed process would not repeat."""

from __future__ import annotations

from typing import Any

_DRAWING = (
    "Random",
    "Multinomial",
    "TruncatedNormal",
    "ParameterizedTruncatedNormal",
    "RngReadAndSkip",
    "SampleDistortedBoundingBox",
)


def hidden_random_ops(concrete: Any) -> list[str]:
    """Kinds of ops in a traced ``tf.function`` and all it calls that draw from hidden state.

    Args:
        concrete: a ``ConcreteFunction``.
    """
    graph = concrete.graph.as_graph_def()
    nodes = list(graph.node)
    for inner in graph.library.function:
        nodes.extend(inner.node_def)
    # RandomIndexShuffle is a pure function of its seed in spite of its name.
    kinds = {node.op for node in nodes if node.op.startswith(_DRAWING)}
    return sorted(kinds - {"RandomIndexShuffle"})
