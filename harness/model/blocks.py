"""The blocks of a backbone: variables that are frozen, trained and given a rate together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import tensorflow as tf

from harness.distribute.together import copies_of
from harness.model.graph_order import first_uses
from harness.tracing import as_written

if TYPE_CHECKING:
    import tf_keras

    from harness.distribute.base import Distribution

Takes: TypeAlias = tf.TensorSpec | dict[str, tf.TensorSpec]
"""What one example of a backbone is: a tensor, or several by name."""
_NUMBER = re.compile(r"[0-9]+[A-Za-z]?(?=[/_.\-]|$)")
_PART = re.compile(r"[/.]")  # Keras and TensorFlow have slashes, weights that were PyTorch's dots
_OF_NORMS = {"gamma", "beta", "moving_mean", "moving_variance"}
NORM_LAYER = r"norm(?!al(?!i[sz]))|(?<![a-z])bn(?![a-z])"
"""What a layer of normalisation has in its name, whatever its case: `LayerNorm`, `bn_Conv1`,
`batch_normalization_3`, and not `normal_conv_1` or `subnet`."""
_NORM = re.compile(NORM_LAYER, re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """Variables of one part of a backbone, in the order in which they are used."""

    name: str
    variables: tuple[tf.Variable, ...]

    @property
    def parameters(self) -> int:
        """Scalars in all its variables."""
        return sum(int(variable.shape.num_elements() or 0) for variable in self.variables)


def plain_name(variable: tf.Variable) -> str:
    """Its name without the number of its output."""
    return str(variable.name).split(":")[0]


def blocks_of(
    layer: tf_keras.layers.Layer, takes: Takes, distribution: Distribution
) -> tuple[Block, ...]:
    """The blocks of ``layer``, from the one next to the input to the one next to the head.

    Args:
        takes: one example as it is given to it.
    """
    variables = list(layer.weights)
    return group(variables, _depths(layer, variables, takes, distribution))


def group(variables: Sequence[tf.Variable], depths: Sequence[int]) -> tuple[Block, ...]:
    """Blocks of variables by name, in the order of ``depths`` (one each).

    A block's name ends with the first number after what all names begin with (``block_16`` of
    ``block_16_project/kernel``, ``layer_3`` of ``bert/layer_3/output/bias``); where there is none
    it is the layer's.  A normalisation with a name of its own belongs to what it follows.
    """
    shared = _shared_folders([plain_name(variable) for variable in variables])
    members: dict[str, list[tuple[int, int]]] = {}
    for at, variable in enumerate(variables):
        name = block_name(plain_name(variable)[shared:])
        members.setdefault(name, []).append((depths[at], at))
    blocks: list[Block] = []
    for name in sorted(members, key=lambda name: _place(members[name])):
        own = tuple(variables[at] for _, at in sorted(members[name]))
        if blocks and _is_norm(name, own):
            before = blocks.pop()
            blocks.append(Block(before.name, before.variables + own))
        else:
            blocks.append(Block(name, own))
    return tuple(blocks)


def _place(members: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Depth and position by which a block is ordered; what is not used has no say in it."""
    used = [(depth, at) for depth, at in members if depth]
    return min(used or members)


def block_name(name: str) -> str:
    """The block that a variable of this name belongs to."""
    *_, last = [0, *(part.start() for part in _PART.finditer(name))]
    layer = name[:last] or name
    number = _NUMBER.search(layer)
    return layer[: number.end()] if number else layer


def _is_norm(block: str, variables: Sequence[tf.Variable]) -> bool:
    leaves = {_PART.split(plain_name(variable))[-1] for variable in variables}
    named = _NORM.search(_PART.split(block)[-1]) and not _NUMBER.search(block)
    return leaves <= _OF_NORMS or bool(named)


def _shared_folders(names: Sequence[str]) -> int:
    """Length of the folders that all names begin with, such as that of the model."""
    folders = [_PART.split(name)[:-1] for name in names]
    number = 0
    while folders and all(len(each) > number + 1 for each in folders):
        if len({each[number] for each in folders}) > 1:
            break
        number += 1
    return sum(len(part) + 1 for part in folders[0][:number]) if folders else 0


def _depths(
    layer: tf_keras.layers.Layer,
    variables: Sequence[tf.Variable],
    takes: Takes,
    distribution: Distribution,
) -> list[int]:
    """How far from the input each variable is first used; 0 of one that is not."""

    @tf.function
    @as_written
    def call(example: Any) -> None:
        # On a replica: outside of it a strategy's variables are in no graph.
        distribution.run(as_written(lambda one: layer(one, training=False)), example)

    with distribution.scope():
        batch = tf.nest.map_structure(
            lambda one: tf.TensorSpec([None, *one.shape], one.dtype, one.name), takes
        )
        traced = call.get_concrete_function(batch)
    owner = {
        id(copy.handle): at for at, variable in enumerate(variables) for copy in copies_of(variable)
    }
    sources = {
        inside.op.name: owner[id(outside)]
        for outside, inside in traced.graph.captures
        if id(outside) in owner
    }
    entries = [each.op.name for each in traced.inputs[: len(tf.nest.flatten(takes))]]
    found = [0] * len(variables)
    for source, depth in first_uses(traced.graph.as_graph_def(), entries, sources).items():
        at = sources[source]
        found[at] = min(depth, found[at] or depth)
    return found
