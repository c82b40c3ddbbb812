"""What a data set holds, before anything is trained on it: counts, sizes, kinds, what is broken.

Free of TensorFlow; the pictures themselves are looked at by :mod:`harness.data.inspect_pictures`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.index import ExampleIndex
from harness.data.manifest import manifest_index
from harness.data.manifest_columns import ManifestOptions
from harness.data.manifest_rows import is_manifest
from harness.data.packed import is_packed
from harness.data.record_files import RecordOptions
from harness.data.regression import Numbers
from harness.data.regression import Spread as Targets
from harness.data.sets import open_index, refuse_idle_columns

if TYPE_CHECKING:
    from harness.data.packed_examples import PackedExamples
    from harness.spec.models_data import DataSpec
    from harness.spec.models_model import Learned


@dataclass(frozen=True)
class Spread:
    """Smallest, median (the lower one of two) and largest of some whole numbers."""

    least: int
    median: int
    most: int

    @classmethod
    def of(cls, values: Iterable[int]) -> Spread | None:
        """None where there is no value."""
        held = sorted(values)
        return cls(held[0], held[(len(held) - 1) // 2], held[-1]) if held else None


class _Looked:
    """Examples that were looked at, some of them broken."""

    looked_at: int
    broken: dict[str, str]

    def reasons(self) -> dict[str, int]:
        """How many are broken for each reason, the most frequent first."""
        return dict(Counter(self.broken.values()).most_common())

    @property
    def all_broken(self) -> bool:
        """Whether examples were looked at and none of them can be used."""
        return 0 < self.looked_at == len(self.broken)


@dataclass(frozen=True)
class Pictures(_Looked):
    """What the pictures that were decoded are like.

    Attributes:
        looked_at: how many were tried.
        heights, widths: pixels, of those that could be decoded.
        kinds: how many of each, by what is in them and not by their names; none of a plug-in's.
        broken: why each of the others could not be decoded, by name.
    """

    looked_at: int
    heights: Spread | None
    widths: Spread | None
    kinds: dict[str, int]
    broken: dict[str, str]


@dataclass(frozen=True)
class TextFacts(_Looked):
    """What the texts that were read are like.

    Attributes:
        looked_at: how many were tried.
        broken: why each that could not be read could not, by name.
        characters, words: of the others; words are what stands between spaces.
    """

    looked_at: int
    broken: dict[str, str]
    characters: Spread | None
    words: Spread | None


@dataclass(frozen=True)
class AudioFacts(_Looked):
    """What the recordings that were read are like.

    Attributes:
        looked_at: how many were tried.
        broken: why each that could not be read could not, by name.
        milliseconds: of the others.
    """

    looked_at: int
    broken: dict[str, str]
    milliseconds: Spread | None


Looked = Pictures | TextFacts | AudioFacts


@dataclass(frozen=True)
class Inspection:
    """What is known of a data set.

    Attributes:
        where: its path, or what stands for it.
        counts: examples of each class.
        file_bytes: of the example files, or of the files of a packed set; None of a plug-in's
            examples.
        total_bytes: of all of them together.
        ignored: files that are no examples, by extension.
        missing: what a manifest lacked, and what was done about it.
        notes: sentences for the user, which may name files.
        digest: as a run records it.
        pictures, texts, recordings: None where none was looked at.
        several: examples, where each may have several labels at once and ``counts`` holds those
            that surely have a label, or numbers; None where each has one class.
        targets: of a regression how each of its targets is spread; empty else.
        sensitive: no name of a file is to be shown; ``notes`` then holds none.
    """

    where: str
    counts: dict[str, int]
    file_bytes: Spread | None
    total_bytes: int
    ignored: dict[str, int]
    missing: dict[str, int]
    notes: tuple[str, ...]
    digest: str
    pictures: Pictures | None = None
    texts: TextFacts | None = None
    recordings: AudioFacts | None = None
    several: int | None = field(default=None, kw_only=True)
    targets: dict[str, Numbers] = field(default_factory=dict, kw_only=True)
    sensitive: bool = field(default=False, kw_only=True)

    @property
    def looked(self) -> Looked | None:
        """What was seen of the examples that were looked at."""
        return self.pictures or self.texts or self.recordings

    @property
    def examples(self) -> int:
        return sum(self.counts.values()) if self.several is None else self.several

    @property
    def imbalance(self) -> float | None:
        """Examples of the largest class for each one of the smallest; None where that has none, and
        of a regression."""
        if self.targets:
            return None
        least = min(self.counts.values())
        return max(self.counts.values()) / least if least else None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON; without names of files where they are sensitive."""
        facts = asdict(self) | {"examples": self.examples, "imbalance": self.imbalance}
        for name in ("pictures", "texts", "recordings"):
            looked: Looked | None = getattr(self, name)
            if looked is not None:
                facts[name]["reasons"] = looked.reasons()
                facts[name]["broken"] = len(looked.broken) if self.sensitive else looked.broken
        return facts


def open_data(path: str | Path) -> ExampleIndex | PackedExamples:
    """The index of a data set, whatever kind of one lies at ``path``.

    Raises:
        DataError: it cannot be used.
    """
    root = Path(path)
    if is_packed(root):  # it says itself what it holds
        from harness.data.packed_examples import packed_examples  # numpy

        return packed_examples(root)
    return manifest_index(root) if is_manifest(root) else open_index(root)


def open_training(
    data: DataSpec, medium: str = "image", *, learned: Learned = "class"
) -> ExampleIndex | PackedExamples:
    """All training examples of a spec that names files; none is split off for validation.

    Args:
        medium: what the examples are.
        learned: what is learned of them.

    Raises:
        DataError: they cannot be used.
    """
    assert data.train is not None, "a spec without a source names its data"
    given = [path for path in (data.train, data.validation, data.test) if isinstance(path, str)]
    refuse_idle_columns(data, any(map(is_manifest, given)))
    options = ManifestOptions.of(data, medium, learned)
    if is_manifest(data.train):
        return manifest_index(data.train, options)
    records = RecordOptions.of(data, medium, learned)
    return open_index(data.train, medium=medium, records=records, options=options)


def describe(
    index: ExampleIndex | PackedExamples,
    where: str,
    looked: Looked | None = None,
    *,
    sensitive: bool = False,
) -> Inspection:
    """What the index says, with what was seen in the examples."""
    numbers: Targets | None
    if isinstance(index, ExampleIndex):
        sizes, ignored = index.sizes, dict(sorted(index.ignored.items()))
        several, numbers = bool(index.values or index.targets), index.values
    else:
        sizes, ignored = [shard.bytes for shard in index.packed.shards], {}
        several, numbers = index.targets is not None, index if index.packed.spread else None
    return Inspection(
        where,
        index.counts(),
        Spread.of(sizes),
        sum(sizes),
        ignored,
        dict(index.missing),
        () if sensitive else tuple(index.notes),
        index.digest,
        looked if isinstance(looked, Pictures) else None,
        looked if isinstance(looked, TextFacts) else None,
        looked if isinstance(looked, AudioFacts) else None,
        several=len(index) if several else None,
        targets=dict(zip(index.classes, numbers.each(), strict=True)) if numbers else {},
        sensitive=sensitive,
    )


def sample_rows(examples: int, wanted: int | None, seed: int) -> Sequence[int]:
    """At most ``wanted`` different rows of [0, examples) as ``seed`` draws them; None is all."""
    if wanted is None:
        return range(examples)
    import numpy as np  # which counting alone does without

    draw = np.random.default_rng(seed)
    return draw.choice(examples, min(wanted, examples), replace=False).tolist()
