"""The data sets of a spec: found, split, counted, and held against what the run has recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.data.index import ExampleIndex
from harness.data.manifest_columns import ManifestOptions
from harness.data.packed_examples import PackedExamples
from harness.data.regression import Scaling, Spread, scaling_of
from harness.data.sets import open_sets, open_test, refuse_idle_columns
from harness.data.sources import Load, plugin_source
from harness.data.split import split_validation
from harness.data.tfds import is_tfds
from harness.data.unlabelled import unlabelled_index
from harness.errors import DataError
from harness.spec import Spec


@dataclass(frozen=True)
class Examples:
    """One split: its index, and how a source plug-in loads an example (None: from its file)."""

    index: ExampleIndex | PackedExamples
    load: Load | None = None


@dataclass(frozen=True)
class Datasets:
    """Train, validation and test of a run, and the target of an adaptation; all but the first may
    be missing.

    ``missing`` counts by split and kind what manifests lacked; ``weight_fill`` is what a missing
    weight is taken as, None if none is; ``scaling`` how the targets of a regression are
    standardised, None of another task.
    """

    train: Examples
    validation: Examples | None
    test: Examples | None
    missing: dict[str, dict[str, int]] = field(default_factory=dict)
    weight_fill: float | None = None
    scaling: Scaling | None = None
    target: Examples | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the label numbers."""
        return tuple(self.train.index.classes)

    def digests(self) -> dict[str, str]:
        """The digest of each data set by its split."""
        return {name: one.index.digest for name, one in self.named()}

    def counts(self) -> dict[str, int]:
        """Examples of each data set by its split."""
        return {name: len(one.index) for name, one in self.named()}

    def named(self) -> Sequence[tuple[str, Examples]]:
        """The splits that there are, by their names."""
        named = (
            ("train", self.train),
            ("validation", self.validation),
            ("test", self.test),
            ("target", self.target),
        )
        return [(name, one) for name, one in named if one is not None]


def open_datasets(
    spec: Spec,
    say: Callable[[str], None],
    classes: Sequence[str] | None = None,
    targets: Mapping[str, Any] | None = None,
) -> Datasets:
    """Looks at the files of all splits and reads none of them but manifests.

    Args:
        say: hears what is worth knowing of the data.
        classes: label names that an earlier attempt recorded; None at the first start.
        targets: how it recorded that numbers are standardised; None takes that of the training
            examples.

    Raises:
        DataError: see :func:`harness.data.sets.open_sets`; or no training data is named.
    """
    sets, target = _labelled(spec, say, classes, targets), _target(spec, say)
    if target is None:
        return sets
    missing = sets.missing | ({"target": target.index.missing} if target.index.missing else {})
    return replace(sets, target=target, missing=missing)


def _target(spec: Spec, say: Callable[[str], None]) -> Examples | None:
    """The examples of ``adaptation.target``; None without an adaptation.

    Args:
        say: hears what is worth knowing of them.

    Raises:
        DataError: they cannot be used.
    """
    if spec.adaptation is None:
        return None
    path, source = spec.adaptation.target, spec.data.source
    try:
        if source is not None:
            return Examples(*plugin_source(source.plugin, path, source.options))
        index = unlabelled_index(path, ManifestOptions.of(spec.data, spec.medium))
    except DataError as error:
        problems = [replace(each, path="adaptation.target") for each in error.problems]
        raise DataError(problems) from error
    for note in index.notes:
        say(note)
    return Examples(index)


def _labelled(
    spec: Spec,
    say: Callable[[str], None],
    classes: Sequence[str] | None,
    targets: Mapping[str, Any] | None,
) -> Datasets:
    data = spec.data
    if data.source is not None:
        return _of_plugin(spec, say, classes)
    if data.train is None:
        raise DataError(
            "no training data is named", action="set data.train in the spec", path="data.train"
        )
    sets = open_sets(data, spec.training.seed, classes, spec.medium, learned=spec.learned)
    for note in sets.notes:
        say(note)
    scaling = _scaling(sets.train, targets)
    train, validation, test = (
        Examples(_scaled(index, scaling)) if index is not None else None
        for index in (sets.train, sets.validation, sets.test)
    )
    assert train is not None, "there are always training examples"
    return Datasets(train, validation, test, sets.missing, sets.weight_fill, scaling)


def _scaling(
    train: ExampleIndex | PackedExamples, targets: Mapping[str, Any] | None
) -> Scaling | None:
    if isinstance(train, ExampleIndex):
        numbers: Spread | None = train.values
    else:
        numbers = train if train.packed.learned == "numbers" else None
    if numbers is None:
        return None
    if targets is not None:
        return Scaling.of_json(targets, train.classes)
    return scaling_of(numbers, train.classes)


def _scaled(
    index: ExampleIndex | PackedExamples, scaling: Scaling | None
) -> ExampleIndex | PackedExamples:
    if scaling is None:
        return index
    if not isinstance(index, ExampleIndex):
        assert index.targets is not None, "they are of one spec"
        return replace(index, targets=replace(index.targets, scaling=scaling))
    assert index.values is not None, "they are of one spec"
    return replace(index, values=replace(index.values, scaling=scaling))


def walks_through_records(spec: Spec) -> bool:
    """Whether TFRecord files of others are among the data, which are looked through as a whole."""
    data = spec.data
    paths = (data.train, data.validation, data.test)
    return data.features is not None or any(is_tfds(p) for p in paths if isinstance(p, str))


def open_test_set(
    spec: Spec,
    path: str | None,
    classes: Sequence[str],
    fill: float | None = None,
    scaling: Scaling | None = None,
) -> Examples | None:
    """What to measure a trained model on: ``path``, or the spec's test set; None without either.

    Args:
        fill: what a missing weight is taken as.
        scaling: how the targets of a regression are standardised.

    Raises:
        DataError: the data set is not usable.
    """
    if spec.data.source is not None:
        path = path or spec.data.test
        return _plugin_set(spec, path, classes) if path is not None else None
    index = open_test(spec.data, path, classes, fill, spec.medium, learned=spec.learned)
    return Examples(_scaled(index, scaling)) if index is not None else None


def _of_plugin(spec: Spec, say: Callable[[str], None], classes: Sequence[str] | None) -> Datasets:
    data = spec.data
    refuse_idle_columns(data, has_manifest=False)
    train = _plugin_set(spec, data.train or "", classes)
    names = train.index.classes
    validation = None
    if isinstance(data.validation, str):
        validation = _plugin_set(spec, data.validation, names)
    elif data.validation is not None:
        assert isinstance(train.index, ExampleIndex), "as a plug-in's examples are"
        kept, held = split_validation(train.index, data.validation.fraction, spec.training.seed)
        train, validation = Examples(kept, train.load), Examples(held, train.load)
        for note in held.notes:
            say(note)
    test = _plugin_set(spec, data.test, names) if data.test is not None else None
    return Datasets(train, validation, test)


def _plugin_set(spec: Spec, path: str, classes: Sequence[str] | None) -> Examples:
    source = spec.data.source
    assert source is not None, "held by who calls"
    return Examples(*plugin_source(source.plugin, path, source.options, classes))


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
            got="other files, sizes, modification times, labels, weights or groups",
            allowed="the data that run.json records under data_digest",
            action="put the files back, or start from the last checkpoint with `harness fork RUN`",
            path="data",
        )
