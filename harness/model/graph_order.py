"""In which order a graph uses its variables, on the way from its input to its output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class _Value(NamedTuple):
    """What is known of a node's outputs: how far from the input they are (None: they do not come
    from it), and which variables they are read from, where they do not."""

    depth: int | None
    sources: frozenset[str]


_NOTHING = _Value(None, frozenset())


def first_uses(graph: Any, entries: Iterable[str], sources: Iterable[str]) -> dict[str, int]:
    """How many operations lie between the input and where each source first meets its data.

    The longest way counts, so that what a short cut brings along is not taken for early.  Looks
    into called functions; a loop or a branch counts as one operation.

    Args:
        graph: a ``GraphDef`` with its library of functions.
        entries: names of the nodes that are the input.
        sources: names of the nodes that stand for variables.

    Returns:
        Depths by source, from 1 on; a source that meets no data is not in it.
    """
    walk = _Walk({each.signature.name: each for each in graph.library.function})
    given = {name: _Value(None, frozenset([name])) for name in sources}
    walk.nodes(graph.node, {**given, **dict.fromkeys(entries, _Value(0, frozenset()))})
    return walk.found


class _Walk:
    def __init__(self, functions: Mapping[str, Any]) -> None:
        self._functions = functions
        self.found: dict[str, int] = {}

    def nodes(self, nodes: Sequence[Any], given: Mapping[str, _Value]) -> dict[str, _Value]:
        """The value of each node; those of ``given`` are known."""
        by_name = {node.name: node for node in nodes}
        needs = {node.name: _inputs(node, by_name) for node in nodes}
        values = dict(given)
        for name in TopologicalSorter(needs).static_order():
            if name in by_name and name not in values:
                inputs = [values.get(each, _NOTHING) for each in needs[name]]
                values[name] = self._value(by_name[name], inputs)
        return values

    def _value(self, node: Any, inputs: Sequence[_Value]) -> _Value:
        name = node.attr["f"].func.name
        if node.op in _CALLS and name in self._functions:
            return self._called(self._functions[name], inputs)
        depths = [value.depth for value in inputs if value.depth is not None]
        read_from = frozenset().union(*(value.sources for value in inputs))
        if not depths:
            return _Value(None, read_from)
        depth = max(depths) + 1
        for source in read_from:
            self.found[source] = min(depth, self.found.get(source, depth))
        return _Value(depth, frozenset())

    def _called(self, function: Any, inputs: Sequence[_Value]) -> _Value:
        names = [argument.name for argument in function.signature.input_arg]
        values = self.nodes(function.node_def, dict(zip(names, inputs, strict=True)))
        given = [values.get(_node(ref), _NOTHING) for ref in function.ret.values()]
        depths = [value.depth for value in given if value.depth is not None]
        if depths:
            return _Value(max(depths), frozenset())
        return _Value(None, frozenset().union(*(value.sources for value in given)))


def _inputs(node: Any, by_name: Mapping[str, Any]) -> list[str]:
    """Names of the nodes whose outputs it takes, without the way back of a loop."""
    names = [_node(ref) for ref in node.input if not ref.startswith("^")]
    if node.op != "Merge":
        return names
    return [name for name in names if name not in by_name or by_name[name].op != "NextIteration"]


def _node(ref: str) -> str:
    """``node``, ``node:0`` and, inside a function, ``node:output:0`` name a node's output."""
    return ref.split(":", 1)[0]
