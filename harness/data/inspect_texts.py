"""Looks at texts: how long they are, and which cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

from harness.data.content import Texts
from harness.data.index import ExampleIndex
from harness.data.inspect import Spread, TextFacts
from harness.data.sources import Load, reason_for

_PART = 64


def look_at_texts(
    index: ExampleIndex,
    load: Load | None,
    rows: Sequence[int],
    seen: Callable[[int], None] = lambda count: None,
) -> TextFacts:
    """Reads some texts, many at a time, as training does.

    Args:
        load: of a plug-in source; None where there are files, or texts in the index.
        seen: hears of every so many more that are done, from any thread.
    """

    def some(start: int) -> list[tuple[str, str, str]]:
        found = [_read(index, load, row) for row in rows[start : start + _PART]]
        seen(len(found))
        return found

    characters, words = [], []
    broken: dict[str, str] = {}
    with ThreadPoolExecutor(2 * len(os.sched_getaffinity(0))) as pool:
        for part in pool.map(some, range(0, len(rows), _PART)):
            for name, one, fault in part:
                if fault:
                    broken[name] = fault
                    continue
                characters.append(len(one))
                words.append(len(one.split()))
    return TextFacts(
        len(rows), dict(sorted(broken.items())), Spread.of(characters), Spread.of(words)
    )


def _read(index: ExampleIndex, load: Load | None, row: int) -> tuple[str, str, str]:
    """Of an example the name, the text, and why there is none."""
    name, content = index.names[row], Texts()
    try:
        if index.texts:
            text = content.decode(tf.constant(index.texts[row]))
        elif load is not None:
            text = load(tf.constant(name))
        else:
            text = content.decode(tf.io.read_file(str(index.root / name)))
        return name, content.prepare(text, None).numpy().decode(), ""
    except tf.errors.OpError:
        return name, "", reason_for(index, load, name, content.fault)
