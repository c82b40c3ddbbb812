"""Looks at texts and recordings: how long they are, and which cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

from harness.data.content import Content, content_of
from harness.data.index import ExampleIndex
from harness.data.inspect import AudioFacts, Spread, TextFacts
from harness.data.inspect_sources import Given, source_of
from harness.data.packed_examples import PackedExamples
from harness.data.records import RecordIndex, Unreadable
from harness.data.sources import Load, reason_for
from harness.spec.models_data import Audio

_PART = 64
Seen = Callable[[int], None]
Sizes = tuple[int, ...]


def look_at_texts(
    index: ExampleIndex | PackedExamples,
    load: Load | None,
    rows: Sequence[int],
    seen: Seen = lambda count: None,
) -> TextFacts:
    """Reads some texts, many at a time, as training does.

    Args:
        load: of a plug-in source; None where there are files, or texts in the index.
        seen: hears of every so many more that are done, from any thread.
    """

    def sizes(text: tf.Tensor) -> Sizes:
        said = text.numpy().decode()
        return len(said), len(said.split())

    found, broken = _look(index, load, rows, content_of("text"), sizes, seen)
    characters, words = (Spread.of(one[part] for one in found) for part in (0, 1))
    return TextFacts(len(rows), broken, characters, words)


def look_at_recordings(
    index: ExampleIndex | PackedExamples,
    load: Load | None,
    rows: Sequence[int],
    audio: Audio,
    seen: Seen = lambda count: None,
) -> AudioFacts:
    """Reads some recordings, as :func:`look_at_texts`."""

    def sizes(samples: tf.Tensor) -> Sizes:
        return (round(1000 * int(samples.shape[0]) / audio.rate_hz),)

    found, broken = _look(index, load, rows, content_of("audio", audio), sizes, seen)
    return AudioFacts(len(rows), broken, Spread.of(one[0] for one in found))


def _look(
    index: ExampleIndex | PackedExamples,
    load: Load | None,
    rows: Sequence[int],
    content: Content,
    sizes: Callable[[tf.Tensor], Sizes],
    seen: Seen,
) -> tuple[list[Sizes], dict[str, str]]:
    """The sizes of those that can be read, and by name why the others cannot."""
    source = source_of(index, load)

    def one(row: int) -> tuple[str, Sizes | str]:
        if isinstance(index, ExampleIndex):
            return _of_index(index, load, row, content, sizes)
        return _of_given(source.some([row])[0], content, sizes)

    def some(start: int) -> list[tuple[str, Sizes | str]]:
        found = [one(row) for row in rows[start : start + _PART]]
        seen(len(found))
        return found

    good: list[Sizes] = []
    broken: dict[str, str] = {}
    with ThreadPoolExecutor(2 * len(os.sched_getaffinity(0))) as pool:
        for part in pool.map(some, range(0, len(rows), _PART)):
            for name, what in part:
                if isinstance(what, str):
                    broken[name] = what
                else:
                    good.append(what)
    return good, dict(sorted(broken.items()))


def _of_index(
    index: ExampleIndex,
    load: Load | None,
    row: int,
    content: Content,
    sizes: Callable[[tf.Tensor], Sizes],
) -> tuple[str, Sizes | str]:
    name = index.names[row]
    try:
        return name, sizes(_read(index, load, row, content))
    except Unreadable as fault:
        return name, str(fault)
    except tf.errors.OpError:
        if isinstance(index, RecordIndex):
            return name, content.fault_in(index.content(row))
        return name, reason_for(index, load, name, content.fault)


def _of_given(
    given: Given, content: Content, sizes: Callable[[tf.Tensor], Sizes]
) -> tuple[str, Sizes | str]:
    if given.fault:
        return given.name, given.fault
    try:
        return given.name, sizes(content.decode(tf.constant(given.content)))
    except tf.errors.OpError:
        return given.name, content.fault_in(given.content)


def _read(index: ExampleIndex, load: Load | None, row: int, content: Content) -> tf.Tensor:
    if isinstance(index, RecordIndex):
        return content.decode(tf.constant(index.content(row)))
    if index.texts:
        return content.decode(tf.constant(index.texts[row]))
    name = index.names[row]
    if load is not None:
        return load(tf.constant(name))
    return content.decode(tf.io.read_file(str(index.root / name)))
