"""The data sets of a spec: found, split, counted, and held against what the run has recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.data.index import ExampleIndex, folder_index
from harness.data.sources import Load, plugin_source
from harness.data.split import split_validation
from harness.errors import DataError
from harness.spec import Spec


@dataclass(frozen=True)
class Examples:
    """One split: its index, and how a source plug-in loads an example (None: from its file)."""

    index: ExampleIndex
    load: Load | None = None


@dataclass(frozen=True)
class Datasets:
    """Train, validation and test of a run; the latter two may be missing."""

    train: Examples
    validation: Examples | None
    test: Examples | None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the label numbers."""
        return tuple(self.train.index.classes)

    def digests(self) -> dict[str, str]:
        """The digest of each data set by its split."""
        return {name: one.index.digest for name, one in self._named()}

    def counts(self) -> dict[str, int]:
        """Examples of each data set by its split."""
        return {name: len(one.index) for name, one in self._named()}

    def _named(self) -> Sequence[tuple[str, Examples]]:
        named = (("train", self.train), ("validation", self.validation), ("test", self.test))
        return [(name, one) for name, one in named if one is not None]


def open_datasets(
    spec: Spec, say: Callable[[str], None], classes: Sequence[str] | None = None
) -> Datasets:
    """Looks at the files of all splits and reads none of them.

    Args:
        say: hears what is worth knowing of the data.
        classes: label names that an earlier attempt recorded; None at the first start.

    Raises:
        DataError: see :func:`harness.data.index.folder_index`; or no training data is named.
    """
    data = spec.data
    if data.train is None and data.source is None:
        raise DataError(
            "no training data is named", action="set data.train in the spec", path="data.train"
        )
    train = open_set(spec, data.train or "", classes)
    names = train.index.classes
    validation = None
    if isinstance(data.validation, str):
        validation = open_set(spec, data.validation, names)
    elif data.validation is not None:
        kept, held = split_validation(train.index, data.validation.fraction, spec.training.seed)
        train, validation = Examples(kept, train.load), Examples(held, train.load)
    test = open_set(spec, data.test, names) if data.test is not None else None
    for one in (train, validation, test):
        for note in one.index.notes if one is not None else ():
            say(note)
    return Datasets(train, validation, test)


def open_set(spec: Spec, path: str, classes: Sequence[str] | None) -> Examples:
    """One data set by the spec's source: a folder per class, or the source plug-in's."""
    source = spec.data.source
    if source is not None:
        return Examples(*plugin_source(source.plugin, path, source.options, classes))
    return Examples(folder_index(path, classes))


def check_unchanged(found: Datasets, recorded: Mapping[str, str] | None) -> None:
    """Holds the data against what the run began with.

    Raises:
        DataError: a data set has changed.
    """
    if not recorded:
        return
    changed = [
        name for name, digest in found.digests().items() if recorded.get(name, digest) != digest
    ]
    if changed:
        raise DataError(
            f"the {' and '.join(changed)} data have changed since the run began",
            got="other files, sizes or modification times",
            allowed="the data that run.json records under data_digest",
            action="put the files back, or start from the last checkpoint with `harness fork RUN`",
            path="data",
        )
