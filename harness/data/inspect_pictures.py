"""Decodes pictures to see what they are, and draws what augmentation makes of them."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from harness.data.augment import Augmenter, example_key
from harness.data.decode import decode, fit, to_uint8
from harness.data.index import ExampleIndex
from harness.data.inspect import Pictures, Spread
from harness.data.sources import Load, folder_loader, reason_for
from harness.errors import DataError

_AT_ONCE = 1024
"""Names that are handed out to the threads together, so that a set of any size fits in memory."""
_KINDS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
)
_WHITE = 255
_GAP = 4


def kind_of(content: bytes) -> str:
    """What a picture is, by its first bytes."""
    return next((kind for magic, kind in _KINDS if content.startswith(magic)), "other")


@dataclass(frozen=True)
class _Seen:
    """One picture: its kind and pixels, or why it cannot be decoded."""

    name: str
    kind: str = ""
    height: int = 0
    width: int = 0
    broken: str | None = None


def look_at(
    index: ExampleIndex,
    rows: Sequence[int],
    load: Load | None = None,
    seen: Callable[[int], None] = lambda count: None,
) -> Pictures:
    """Decodes some examples, on all cores.

    Args:
        load: of a plug-in source; None reads files.
        seen: hears of every so many more that are done, from any thread.
    """
    look = _looker(index, load, seen)
    heights, widths = [], []
    kinds: Counter[str] = Counter()
    broken: dict[str, str] = {}
    with ThreadPoolExecutor(2 * len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(rows), _AT_ONCE):
            names = [index.names[row] for row in rows[start : start + _AT_ONCE]]
            for one in pool.map(look, names):
                if one.broken is not None:
                    broken[one.name] = one.broken
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


def _looker(
    index: ExampleIndex, load: Load | None, seen: Callable[[int], None]
) -> Callable[[str], _Seen]:
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def shape(given: tf.Tensor) -> tf.Tensor:
        return tf.shape(decode(given) if load is None else load(given))

    def look(name: str) -> _Seen:
        try:
            given = (index.root / name).read_bytes() if load is None else name.encode()
            height, width, _ = shape(tf.constant(given)).numpy().tolist()
            return _Seen(name, kind_of(given) if load is None else "", height, width)
        except (OSError, tf.errors.OpError):
            return _Seen(name, broken=reason_for(index, load, name))
        finally:
            seen(1)

    return look


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
    index: ExampleIndex,
    augmenter: Augmenter,
    rows: Sequence[int],
    wanted: int,
    copies: int,
    size: int,
    load: Load | None = None,
) -> Grid:
    """A row for each example: as it is prepared, then as each of the first epochs shows it.

    Args:
        rows: of the index, tried in this order until ``wanted`` could be decoded.
        copies: epochs 0 to copies - 1.
        size: height and width of each picture, pixels.
        load: of a plug-in source; None reads files.

    Raises:
        DataError: none of them can be decoded.
    """
    read = load or folder_loader(index)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def shown(name: tf.Tensor) -> tf.Tensor:
        image, key = read(name), example_key(name)
        epochs = tf.range(copies, dtype=tf.int64)
        changed = tf.map_fn(
            lambda epoch: augmenter(image, size, epoch, key), epochs, fn_output_signature=tf.uint8
        )
        return tf.concat([to_uint8(fit(image, size))[None], changed], axis=0)

    lines, names = [], []
    broken: dict[str, str] = {}
    for name in (index.names[row] for row in rows):
        try:
            lines.append(shown(tf.constant(name)).numpy())
            names.append(name)
        except tf.errors.OpError:
            broken[name] = reason_for(index, load, name)
        if len(lines) == wanted:
            break
    if not lines:
        raise DataError(
            f"none of the {len(broken)} examples that were drawn can be decoded",
            got=next(iter(broken.values()), "no example"),
            action="`harness inspect` on the data says which files are broken",
        )
    return Grid(tiled(np.stack(lines)), tuple(names), broken)


def tiled(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[rows, columns, S, S, 3] as one picture with white in between."""
    rows, columns, size = pictures.shape[:3]
    step = size + _GAP
    whole = np.full((rows * step + _GAP, columns * step + _GAP, 3), _WHITE, np.uint8)
    for row, column in itertools.product(range(rows), range(columns)):
        top, left = row * step + _GAP, column * step + _GAP
        whole[top : top + size, left : left + size] = pictures[row, column]
    return whole
