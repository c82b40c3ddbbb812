"""Decodes pictures to see what they are, and draws what augmentation makes of them."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from harness.data.augment import Augmenter, example_key
from harness.data.decode import prepared
from harness.data.inspect import Pictures, Spread
from harness.data.inspect_sources import Given, Source
from harness.data.mixing import Mixing
from harness.errors import DataError

_AT_ONCE = 4096
"""Examples that are handed out to the threads together, so that any set fits in memory."""
_PART = 16
"""Examples of a thread at a time: neighbours of a packed set are read together."""
_WHITE = 255
_GAP = 4


class _Seen(NamedTuple):
    """One picture: its kind and pixels, or why it cannot be decoded."""

    name: str
    kind: str = ""
    height: int = 0
    width: int = 0
    fault: str = ""


def look_at(
    source: Source, rows: Sequence[int], seen: Callable[[int], None] = lambda count: None
) -> Pictures:
    """Decodes some examples, on all cores.

    Args:
        seen: hears of every so many more that are done, from any thread.

    Raises:
        DataError: a packed set is not whole.
    """
    look = _looker(source, seen)
    heights, widths = [], []
    kinds: Counter[str] = Counter()
    broken: dict[str, str] = {}
    with ThreadPoolExecutor(2 * len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(rows), _AT_ONCE):
            end = min(start + _AT_ONCE, len(rows))
            parts = [rows[at : min(at + _PART, end)] for at in range(start, end, _PART)]
            for one in itertools.chain.from_iterable(pool.map(look, parts)):
                if one.fault:
                    broken[one.name] = one.fault
                    continue
                heights.append(one.height)
                widths.append(one.width)
                if one.kind:
                    kinds[one.kind] += 1
    return Pictures(
        len(rows),
        Spread.of(heights),
        Spread.of(widths),
        dict(kinds.most_common()),
        dict(sorted(broken.items())),
    )


def _looker(source: Source, seen: Callable[[int], None]) -> Callable[[Sequence[int]], list[_Seen]]:
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def shape(content: tf.Tensor) -> tf.Tensor:
        return tf.shape(source.image(content))

    def one(given: Given) -> _Seen:
        if given.fault:
            return _Seen(given.name, fault=given.fault)
        try:
            height, width, _ = shape(tf.constant(given.content)).numpy().tolist()
        except tf.errors.OpError:
            return _Seen(given.name, fault=source.fault(given))
        return _Seen(given.name, source.kind(given), height, width)

    def some(rows: Sequence[int]) -> list[_Seen]:
        found = [one(given) for given in source.some(rows)]
        seen(len(found))
        return found

    return some


@dataclass(frozen=True)
class Grid:
    """Augmented pictures side by side.

    Attributes:
        picture: uint8 [H, W, 3].
        names: of the examples, from the top.
        broken: why others, which were drawn before, are not there, by name.
    """

    picture: NDArray[np.uint8]
    names: tuple[str, ...]
    broken: dict[str, str]


def augmented_grid(
    source: Source,
    augmenter: Augmenter,
    rows: Sequence[int],
    wanted: int,
    copies: int,
    size: int,
    mixing: Mixing | None = None,
) -> Grid:
    """A row for each example: as it is prepared, then as each of the first epochs shows it.

    With ``mixing`` the example in the row above is what it is mixed with, of the first the last.

    Args:
        rows: examples, tried in this order until ``wanted`` could be decoded.
        copies: epochs 0 to copies - 1.
        size: height and width of each picture, pixels.

    Raises:
        DataError: none of them can be decoded, or a packed set is not whole.
    """

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)] * 2, autograph=False)
    def shown(name: tf.Tensor, content: tf.Tensor) -> tf.Tensor:
        image, key = source.image(content), example_key(name)
        epochs = tf.range(copies, dtype=tf.int64)
        changed = tf.map_fn(
            lambda epoch: augmenter(image, size, epoch, key), epochs, fn_output_signature=tf.uint8
        )
        return tf.concat([prepared(image, size)[None], changed], axis=0)

    lines, names, broken = _decoded(source, rows, wanted, shown)
    cells = np.stack(lines)
    if mixing is not None:
        cells[:, 1:] = _mixed(cells[:, 1:], names, mixing)
    return Grid(tiled(cells), tuple(names), broken)


def _decoded(
    source: Source, rows: Sequence[int], wanted: int, shown: Callable[..., tf.Tensor]
) -> tuple[list[NDArray[np.uint8]], list[str], dict[str, str]]:
    """What is shown of the first ``wanted`` examples that can be decoded, their names, and the
    faults of the others."""
    lines, names = [], []
    broken: dict[str, str] = {}
    for given in itertools.chain.from_iterable(source.some([row]) for row in rows):
        try:
            if given.fault:
                broken[given.name] = given.fault
                continue
            lines.append(shown(tf.constant(given.name), tf.constant(given.content)).numpy())
            names.append(given.name)
        except tf.errors.OpError:
            broken[given.name] = source.fault(given)
        if len(lines) == wanted:
            break
    if not lines:
        raise DataError(
            f"none of the {len(broken)} examples that were drawn can be decoded",
            got=next(iter(broken.values()), "no example"),
            action="`harness inspect` on the data says which files are broken",
        )
    return lines, names, broken


def _mixed(cells: NDArray[np.uint8], names: Sequence[str], mixing: Mixing) -> NDArray[np.uint8]:
    """[rows, epochs, S, S, 3], each row mixed with the one above it."""
    keys, all_there = example_key(tf.constant(names)), tf.fill([len(names)], True)
    columns = [
        mixing.mix(cells[:, epoch], np.roll(cells[:, epoch], 1, axis=0), all_there, epoch, keys)[0]
        for epoch in range(cells.shape[1])
    ]
    return np.stack([column.numpy() for column in columns], axis=1)


def tiled(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[rows, columns, S, S, 3] as one picture with white in between."""
    rows, columns, size = pictures.shape[:3]
    step = size + _GAP
    whole = np.full((rows * step + _GAP, columns * step + _GAP, 3), _WHITE, np.uint8)
    for row, column in itertools.product(range(rows), range(columns)):
        top, left = row * step + _GAP, column * step + _GAP
        whole[top : top + size, left : left + size] = pictures[row, column]
    return whole
