"""Which variables of a backbone a phase trains, and how far each is from the head."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import tensorflow as tf

from harness.errors import SpecError
from harness.model.blocks import Block, plain_name
from harness.spec.models_phases import UNFREEZE_FORMS, last_blocks, share


@dataclass(frozen=True)
class Unfrozen:
    """What a phase trains of the backbone, from the input to the head.

    ``distance`` is, for each variable, the number of blocks between its own and the head's side:
    0 in the last block.
    """

    variables: tuple[tf.Variable, ...] = ()
    distance: tuple[int, ...] = ()
    blocks: tuple[str, ...] = ()


def unfrozen(
    unfreeze: str, blocks: Sequence[Block], trainable: Sequence[tf.Variable], field: str
) -> Unfrozen:
    """What ``training.phases.N.unfreeze`` means for a backbone.

    Args:
        blocks: of the whole backbone, from the input to the head.
        trainable: what of it can be trained at all.

    Raises:
        SpecError: it means nothing, such as more blocks than there are.
    """
    if unfreeze == "none":
        return Unfrozen()
    if not trainable:
        raise SpecError(
            "the backbone has nothing that can be trained",
            got=f"unfreeze: {unfreeze}, a module without trainable variables",
            allowed="none with this module",
            action="set unfreeze: none, or take a module that can be fine-tuned",
            path=field,
        )
    able = {id(variable) for variable in trainable}
    parts = [
        Block(block.name, tuple(v for v in block.variables if id(v) in able)) for block in blocks
    ]
    parts = [part for part in parts if part.variables]
    chosen = _chosen(unfreeze, parts, field)
    found = [
        (variable, len(parts) - 1 - at, part.name)
        for at, part in enumerate(parts)
        for variable in part.variables
        if id(variable) in chosen
    ]
    variables, distance, names = zip(*found, strict=True)
    return Unfrozen(variables, distance, tuple(dict.fromkeys(names)))


def _chosen(unfreeze: str, parts: Sequence[Block], field: str) -> set[int]:
    """The ids of the variables that are trained, one or more."""
    number, part = last_blocks(unfreeze), share(unfreeze)
    if number is not None:
        if number > len(parts):
            raise SpecError(
                f"the backbone has {len(parts)} blocks that can be trained",
                got=unfreeze,
                allowed=f"last:1 to last:{len(parts)}, or all",
                action="`harness inspect BACKBONE` lists them",
                path=field,
            )
        kept = parts[-number:]
    elif part is not None:
        kept = parts[-_blocks_within(parts, part) :]
    elif unfreeze == "all":
        kept = list(parts)
    else:
        return _matching(unfreeze, parts, field)
    return {id(variable) for block in kept for variable in block.variables}


def _blocks_within(parts: Sequence[Block], part: float) -> int:
    """How many of the last blocks hold at most ``part`` of all parameters; 1 or more."""
    room = part * sum(block.parameters for block in parts)
    number = 0
    for block in reversed(parts):
        room -= block.parameters
        if room < 0:
            break
        number += 1
    return max(1, number)


def _matching(pattern: str, parts: Sequence[Block], field: str) -> set[int]:
    variables = [variable for block in parts for variable in block.variables]
    found = {id(v) for v in variables if re.search(pattern, plain_name(v))}
    if not found:
        names = [plain_name(variable) for variable in variables]
        near = get_close_matches(pattern, names, 3, 0.3) or names[-3:]
        raise SpecError(
            "no variable of the backbone has such a name",
            got=f"unfreeze: {pattern}",
            allowed=f"{UNFREEZE_FORMS}; names are such as {', '.join(near)}",
            action="`harness inspect BACKBONE` lists them",
            path=field,
        )
    return found
