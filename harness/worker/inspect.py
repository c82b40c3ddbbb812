"""Inspecting data, as the verb does it: what is asked for is opened, looked at and described.

TensorFlow is imported once pictures are to be decoded, not before.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from harness.data.inspect import (
    AudioFacts,
    Inspection,
    Looked,
    TextFacts,
    describe,
    open_data,
    open_training,
    sample_rows,
)
from harness.errors import UsageError
from harness.runs.files import write_atomic
from harness.spec.models_data import Audio
from harness.spec.plugin_files import load_plugins
from harness.worker.environment import import_tensorflow, prepare

if TYPE_CHECKING:
    from harness.data.index import ExampleIndex
    from harness.data.packed_examples import PackedExamples
    from harness.data.sources import Load
    from harness.spec import Resolved, Spec

MOST_PIXELS = 100_000_000
"""Of a grid: about what a viewer of pictures opens without trouble."""
_TRIES = 4
"""Examples drawn for each row of a grid, since some may be broken."""


@dataclass(frozen=True)
class Sample:
    """Which pictures are looked at: ``count`` of them (None is all), drawn by ``seed``."""

    count: int | None
    seed: int = 1


@dataclass(frozen=True)
class Shown:
    """A grid that was written: its file, the examples in it, the epochs of each, and how many of
    those drawn were broken and left out."""

    file: Path
    names: tuple[str, ...]
    epochs: int
    broken: int


def inspect_folder(
    path: Path, sample: Sample, say: Callable[[str], None], progress: TextIO | None = None
) -> Inspection:
    """What lies at a path.

    Args:
        say: hears of what TensorFlow's surroundings need.
        progress: gets a line that tells how far it is; None is standard error.

    Raises:
        DataError: the data cannot be used.
        EnvironmentNotAble: pictures are to be decoded, and TensorFlow is not installed.
    """
    index = open_data(path)
    return describe(index, str(path), _look(index, None, sample, say, progress or sys.stderr))


def inspect_spec(
    resolved: Resolved,
    sample: Sample,
    say: Callable[[str], None],
    progress: TextIO | None = None,
    *,
    names: bool = False,
) -> Inspection:
    """The training data of a spec, those that it holds back for validation among them.

    Args:
        names: name files even where ``data.sensitive`` is true.

    Raises:
        DataError, EnvironmentNotAble: see :func:`inspect_folder`.
        SpecError, UsageError: a plug-in cannot be used.
    """
    spec = resolved.spec
    if spec.data.source is not None:
        on_processor(say)
        load_plugins(spec.plugins, resolved.user.trust)
    index, load = _examples(spec)
    hidden = spec.data.sensitive and not names
    looked = _look(index, load, sample, say, progress or sys.stderr, spec)
    if hidden and looked is not None and load is not None:
        # What a plug-in says of an error may well name the example.
        looked = replace(looked, broken=dict.fromkeys(looked.broken, "cannot be loaded"))
    where = spec.name if hidden else _where(spec)
    return describe(index, where, looked, sensitive=hidden)


def show_augmented(
    resolved: Resolved,
    file: Path,
    sample: Sample,
    copies: int,
    say: Callable[[str], None],
    *,
    sensitive: bool = False,
) -> Shown:
    """Writes a PNG of what ``data.augment`` makes of some training pictures.

    Each row is an example: as validation would see it, then as the epochs 0 to ``copies`` - 1 of
    a training with the spec's seed do.

    Args:
        sensitive: write it even where ``data.sensitive`` is true, readable by its owner alone.

    Raises:
        UsageError: the spec changes no picture, keeps its pictures to itself, or the grid would be
            too large.
        DataError: the data cannot be used, or no picture can be decoded.
        StorageError: the file cannot be written.
    """
    spec = resolved.spec
    wanted = sample.count or 1
    _check_grid(spec, wanted, copies, sensitive)
    on_processor(say)
    import tensorflow as tf

    from harness.data.augment import Augmenter
    from harness.data.content import least_side
    from harness.data.inspect_pictures import augmented_grid
    from harness.data.inspect_sources import source_of
    from harness.data.mixing import mixing_of

    load_plugins(spec.plugins, resolved.user.trust)
    augmenter = Augmenter(spec.data.augment, spec.training.seed)
    mixing = mixing_of(spec.data.augment, spec.training.seed)
    if not augmenter.changes and mixing is None:
        raise UsageError(
            "the spec changes no picture",
            got="data.augment with nothing in it",
            action="set a field of it, as -o data.augment.flip=horizontal",
            path="data.augment",
        )
    index, load = _examples(spec)
    rows = sample_rows(len(index), _TRIES * wanted, sample.seed)
    size = spec.data.image_size or 0  # _check_grid has seen that there are pictures
    source = source_of(index, load, least_side(spec))
    grid = augmented_grid(source, augmenter, rows, wanted, copies, size, mixing)
    mode = 0o600 if spec.data.sensitive else 0
    write_atomic(file, tf.io.encode_png(grid.picture).numpy(), mode=mode)
    return Shown(file, grid.names, copies, len(grid.broken))


def _check_grid(spec: Spec, rows: int, copies: int, sensitive: bool) -> None:
    if spec.data.sensitive and not sensitive:
        raise UsageError(
            "the spec keeps its pictures to itself, and a grid would show them",
            got="data.sensitive: true",
            action="add --show-sensitive if whoever can read the file may see them",
            path="data.sensitive",
        )
    if spec.data.image_size is None:
        raise UsageError(
            "a grid is of pictures, and the examples are none",
            got=f"task: {spec.task}",
            allowed="a spec of pictures",
            action="leave out --augment",
            path="task",
        )
    pixels = rows * (copies + 1) * spec.data.image_size**2
    if pixels > MOST_PIXELS:
        raise UsageError(
            "the grid would be too large to be looked at",
            got=f"{rows} rows of {copies + 1} pictures, {pixels / 1e6:,.0f} million pixels",
            allowed=f"{MOST_PIXELS / 1e6:.0f} million pixels",
            action="ask for fewer (--sample, --copies), or set -o data.image_size=SIZE",
        )


def _examples(spec: Spec) -> tuple[ExampleIndex | PackedExamples, Load | None]:
    """All training data of a spec; those of a plug-in once it is loaded."""
    if spec.data.source is None:
        return open_training(spec.data, spec.medium, learned=spec.learned), None
    from harness.worker.datasets import open_datasets

    data = spec.data.model_copy(update={"validation": None, "test": None})
    train = open_datasets(spec.model_copy(update={"data": data}), lambda note: None).train
    return train.index, train.load


def _look(
    index: ExampleIndex | PackedExamples,
    load: Load | None,
    sample: Sample,
    say: Callable[[str], None],
    progress: TextIO,
    spec: Spec | None = None,
) -> Looked | None:
    if sample.count == 0:
        return None
    on_processor(say)
    medium = _medium(index, spec)
    if medium != "image":
        audio = spec.data.audio if spec is not None else None
        return _look_at_contents(index, load, sample, progress, medium, audio or _ANY_AUDIO)
    from harness.data.inspect_pictures import look_at
    from harness.data.inspect_sources import source_of
    from harness.worker.counted import Counted

    rows = sample_rows(len(index), sample.count, sample.seed)
    if sample.count is not None:
        rows = sorted(rows)  # neighbours in a packed set are read together
    with Counted("looked at", "pictures", len(rows), progress) as counted:
        return look_at(source_of(index, load), rows, counted.add)


def _medium(index: ExampleIndex | PackedExamples, spec: Spec | None) -> str:
    """A packed set says itself what it holds; of a folder only a spec does."""
    from harness.data.packed_examples import PackedExamples

    if isinstance(index, PackedExamples):
        return index.packed.medium
    return spec.medium if spec is not None else "image"


def _look_at_contents(
    index: ExampleIndex | PackedExamples,
    load: Load | None,
    sample: Sample,
    progress: TextIO,
    medium: str,
    audio: Audio,
) -> TextFacts | AudioFacts:
    from harness.data.inspect_contents import look_at_recordings, look_at_texts
    from harness.data.media import medium_of
    from harness.worker.counted import Counted

    rows = sample_rows(len(index), sample.count, sample.seed)
    with Counted("looked at", medium_of(medium).many, len(rows), progress) as counted:
        if medium == "audio":
            return look_at_recordings(index, load, rows, audio, counted.add)
        return look_at_texts(index, load, rows, counted.add)


_ANY_AUDIO = Audio(rate_hz=16_000, seconds=1.0)
"""The rate that a recording is brought to does not change how long it is."""


def on_processor(say: Callable[[str], None]) -> None:
    """Imports TensorFlow for work on the processor alone."""
    prepare(os.environ, say)
    with tempfile.TemporaryDirectory() as chatter:  # of GPUs, which are of no use here
        import_tensorflow(Path(chatter, "log"))
    from harness.distribute.devices import hide_gpus

    hide_gpus()


def _where(spec: Spec) -> str:
    if spec.data.train is not None:
        return spec.data.train
    assert spec.data.source is not None, "a spec names its data or a source of it"
    return f"plugin:{spec.data.source.plugin}"
