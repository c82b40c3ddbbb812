"""The data sets that a spec names, from folders and manifests.  Free of TensorFlow.

What a manifest with a column of splits holds, and what ``data.validation`` and ``data.test`` say,
are brought together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.index import ExampleIndex, folder_index
from harness.data.manifest import ManifestSets, manifest_sets
from harness.data.manifest_columns import ManifestOptions, refuse_folder
from harness.data.manifest_rows import is_manifest
from harness.data.media import medium_of
from harness.data.packed import GROUPS, is_packed
from harness.data.record_files import RecordOptions, refuse_idle_features
from harness.data.tfds import is_tfds
from harness.errors import DataError
from harness.spec.base import show
from harness.spec.models_data import DataSpec, ValidationFraction
from harness.spec.models_model import Learned

if TYPE_CHECKING:
    from harness.data.packed_examples import PackedExamples


@dataclass(frozen=True)
class Sets:
    """The examples of a spec.

    Attributes:
        train, validation, test: their indexes; the latter two may be missing.
        missing: by split and kind, what manifests lacked and what was done about it.
        weight_fill: what a missing weight is taken as; None if none is.
        notes: sentences for the user.
    """

    train: ExampleIndex | PackedExamples
    validation: ExampleIndex | PackedExamples | None
    test: ExampleIndex | PackedExamples | None
    missing: dict[str, dict[str, int]] = field(default_factory=dict)
    weight_fill: float | None = None
    notes: tuple[str, ...] = ()


def open_sets(
    data: DataSpec,
    seed: int,
    classes: Sequence[str] | None = None,
    medium: str = "image",
    *,
    learned: Learned = "class",
) -> Sets:
    """Looks at the files of all splits and reads none of them but manifests.

    Args:
        seed: of a split by fraction.
        classes: label names that an earlier attempt recorded; None at the first start.
        medium: what the examples are, see ``Spec.medium``.
        learned: what is learned of them, see ``Spec.learned``.

    Raises:
        DataError: a data set is not usable, or what the spec says of them does not go together.
    """
    assert data.train is not None, "held by who calls"
    given = [path for path in (data.train, data.validation, data.test) if isinstance(path, str)]
    refuse_idle_columns(data, any(map(is_manifest, given)))
    refuse_idle_features(data, given)
    options = ManifestOptions.of(data, medium, learned)
    records = RecordOptions.of(data, medium, learned)
    held = ManifestSets({}, {}, None)
    train: ExampleIndex | PackedExamples
    if is_manifest(data.train):
        wanted = ("train", *(["validation"] if data.validation is not None else []), "test")
        held = manifest_sets(data.train, options, classes, wanted=wanted)
        train = held.sets["train"]
    else:
        train = open_index(data.train, classes, medium, records, options)
        held = replace(held, fill=getattr(train, "weight_fill", None))
    notes = _unused_notes(data, held)
    names, whole = train.classes, [("train", train)]
    validation: ExampleIndex | PackedExamples | None
    if isinstance(data.validation, ValidationFraction) and "validation" not in held.sets:
        train, validation = _split(train, data.validation.fraction, seed)
        notes += validation.notes
    else:
        path = data.validation if isinstance(data.validation, str) else None
        validation = _given(data, held, "validation", path, names, records, options)
        whole += [("validation", validation)] if validation is not None else []
    test = _given(data, held, "test", data.test, names, records, options)
    whole += [("test", test)] if test is not None else []
    notes += _check_groups(data, dict(whole))
    missing = {name: index.missing for name, index in whole if index.missing}
    notes = tuple(note for _, index in whole for note in index.notes) + notes
    return Sets(train, validation, test, missing, held.fill, notes)


def open_test(
    data: DataSpec,
    path: str | None,
    classes: Sequence[str],
    fill: float | None = None,
    medium: str = "image",
    *,
    learned: Learned = "class",
) -> ExampleIndex | PackedExamples | None:
    """The examples to measure a trained model on; None if neither path nor spec name any.

    Args:
        path: a folder or manifest; None takes the spec's test set.
        classes: of the trained model.
        fill: what a missing weight is taken as.
        medium: what the examples are.
        learned: what is learned of them.

    Raises:
        DataError: they are not usable.
    """
    if path is None:
        path = data.test
    if path is None:
        if data.columns.split is None or data.train is None or not is_manifest(data.train):
            return None
        path = data.train
    options = ManifestOptions.of(data, medium, learned)
    if not is_manifest(path):
        records = replace(RecordOptions.of(data, medium, learned), split="test", fill=fill)
        return open_index(path, classes, medium, records, options)
    # Groups matter where examples are shared out, which was done before.
    options = replace(options, group=None).beside(classes)
    sets = manifest_sets(path, options, classes, own="test", wanted=("test",), fill=fill)
    return sets.sets["test"]


def open_index(
    path: str | Path,
    classes: Sequence[str] | None = None,
    medium: str = "image",
    records: RecordOptions | None = None,
    options: ManifestOptions | None = None,
) -> ExampleIndex | PackedExamples:
    """A folder per class, a packed set, a directory of TensorFlow Datasets, or TFRecord files.

    Args:
        classes: for validation and test data: the classes of the training data.
        medium: what the examples are.
        records: how TFRecord files are read, which is what ``path`` then means.
        options: what a spec learns of them; None is a class, or what a packed set holds.

    Raises:
        DataError: it is not usable, or does not have what is learned.
    """
    if is_packed(Path(path)):
        from harness.data.packed_examples import packed_examples  # numpy, as below
        from harness.data.packed_targets import refuse_other_medium

        packed = packed_examples(path, classes, options)
        refuse_other_medium(packed.packed, medium)
        return packed
    records = records or RecordOptions(medium=medium_of(medium))
    if options is not None and (is_tfds(path) or records.example is None):
        refuse_folder(options, str(path))
    if is_tfds(path):
        from harness.data.tfds_index import tfds_index  # numpy, as below

        return tfds_index(path, classes, records)
    if records.example is not None:
        from harness.data.record_index import record_index  # numpy, as below

        return record_index(path, records, classes)
    return folder_index(path, classes, medium_of(medium))


def _split(
    train: ExampleIndex | PackedExamples, fraction: float, seed: int
) -> tuple[ExampleIndex | PackedExamples, ExampleIndex | PackedExamples]:
    if isinstance(train, ExampleIndex):
        from harness.data.split import split_validation  # numpy, which a plan may do without

        return split_validation(train, fraction, seed)
    return train.split(fraction, seed)


def refuse_idle_columns(data: DataSpec, has_manifest: bool) -> None:
    """Holds that fields which only a manifest gives a meaning to are not set without one.

    Raises:
        DataError: some are.
    """
    if has_manifest:
        return
    columns = data.columns
    idle = {
        "data.columns.text": columns.text,
        "data.columns.group": columns.group,
        "data.columns.weight": columns.weight,
        "data.columns.split": columns.split,
        "data.columns.label_separator": columns.label_separator,
        "data.root": data.root,
    }
    names = [name for name, value in idle.items() if value is not None]
    if names:
        raise DataError(
            f"{' and '.join(names)} {'says' if len(names) == 1 else 'say'} how a manifest is read, "
            "and the spec names none",
            got=show(data.train, 200),
            allowed="a manifest (.csv, .tsv) as data.train, data.validation or data.test",
            action="name a manifest, or remove these fields",
            path=names[0],
        )


def _given(
    data: DataSpec,
    held: ManifestSets,
    split: str,
    path: str | None,
    classes: Sequence[str],
    records: RecordOptions,
    options: ManifestOptions,
) -> ExampleIndex | PackedExamples | None:
    """The validation or test set: rows of the training manifest, or what ``path`` names."""
    rows = held.sets.get(split)
    if path is None:
        return rows
    if rows is not None and _is_train(data, path):
        return rows
    if rows is not None:
        raise DataError(
            f"there are two {split} sets",
            got=f"{path}, and {len(rows)} rows of {data.train}",
            allowed="one of them",
            action=f"remove data.{split}, or these rows, or data.columns.split",
            path=f"data.{split}",
        )
    if not is_manifest(path):
        medium, records = records.medium.name, replace(records, split=split, fill=held.fill)
        return open_index(path, classes, medium, records, options)
    beside = options.beside(classes)
    sets = manifest_sets(path, beside, classes, own=split, wanted=(split,), fill=held.fill)
    return sets.sets[split]


def _unused_notes(data: DataSpec, held: ManifestSets) -> tuple[str, ...]:
    """What of a training manifest or of the spec has no effect because of the other."""
    notes = [
        f"warning: data.{name} is the training data too, so its figures say nothing of new examples"
        for name in ("validation", "test")
        if isinstance(path := getattr(data, name), str)
        and _is_train(data, path)
        and not is_tfds(path)
        and name not in held.sets
    ]
    notes += [
        f"{data.train}: {count} {name} rows are not used, since data.{name} is null"
        for name, count in held.unused.items()
    ]
    rows = held.sets.get("validation")
    if rows is not None and isinstance(data.validation, ValidationFraction):
        notes.append(
            f"{data.train}: its {len(rows)} validation rows are the validation set, "
            "no fraction of the training rows is split off"
        )
    return tuple(notes)


def _check_groups(
    data: DataSpec, sets: dict[str, ExampleIndex | PackedExamples]
) -> tuple[str, ...]:
    grouped = {name: index for name, index in sets.items() if _has_groups(index)}
    if len(grouped) > 1:
        from harness.data.split import refuse_shared_groups

        refuse_shared_groups(grouped, data.sensitive)
    rest = [name for name in sets if name not in grouped]
    if not grouped or not rest:
        return ()
    return (f"warning: the groups of the {' and '.join(rest)} data are not known, so not compared",)


def _has_groups(index: ExampleIndex | PackedExamples) -> bool:
    if isinstance(index, ExampleIndex):
        return bool(index.groups)
    return GROUPS in index.packed.kinds


def _is_train(data: DataSpec, path: str) -> bool:
    train = data.train
    return path == train or (
        train is not None and Path(path).exists() and Path(path).samefile(train)
    )
