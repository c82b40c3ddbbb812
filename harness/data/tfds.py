"""A directory that TensorFlow Datasets has prepared: what it says of its files and features.

Its two JSON files are read, so the package tensorflow-datasets is not needed.  Free of TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.data.record_files import RecordOptions, names_in
from harness.data.scan import listed
from harness.errors import DataError, StorageError
from harness.runs.files import read_json
from harness.spec.models_data import DataSpec

INFO, FEATURES = "dataset_info.json", "features.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_KINDS = {"image": "image", "text": "text", "audio": "audio"}
_UNLABELLED = -1
"""What the data sets of the package have for a label that is not known."""


def is_tfds(path: str | Path) -> bool:
    """Whether a path is a directory of a version of a data set."""
    return Path(path, INFO).is_file() and Path(path, FEATURES).is_file()


def tfds_files(path: str | Path, split: str) -> tuple[list[str], list[int]]:
    """(files of a split, records of each).

    Raises:
        DataError: there is no such split, or its files are no TFRecords.
    """
    info = _read(Path(path, INFO))
    kind = info.get("fileFormat", "tfrecord")
    if kind != "tfrecord":
        raise DataError(
            f"{path} is a data set in files of another format",
            got=repr(kind),
            allowed="'tfrecord'",
            action="prepare it again with file_format='tfrecord'",
        )
    splits = {str(one.get("name")): one for one in info.get("splits", [])}
    if split not in splits:
        raise DataError(
            f"{path} has no split {split!r}",
            got=f"the splits {listed(sorted(splits))}",
            allowed="train for data.train, validation for data.validation, test for data.test",
            action=f"name other data as data.{split}"
            + (", or a fraction of the training data" if split == "validation" else ""),
        )
    try:
        lengths = [int(length) for length in splits[split]["shardLengths"]]
        template = str(splits[split].get("filepathTemplate") or _TEMPLATE)
        files = [
            template.format(
                DATASET=info["name"],
                SPLIT=split,
                FILEFORMAT=kind,
                SHARD_INDEX=f"{number:05d}",
                NUM_SHARDS=f"{len(lengths):05d}",
                SHARD_X_OF_Y=f"{number:05d}-of-{len(lengths):05d}",
            )
            for number in range(len(lengths))
        ]
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise _odd(Path(path, INFO), error) from None
    if any("/" in name for name in files):
        raise DataError(f"{Path(path, INFO)} names files outside of its folder", got=files[0])
    return files, lengths


def tfds_options(path: str | Path, options: RecordOptions) -> RecordOptions:
    """How the records of a directory are read.

    Features that ``options`` name count; else those that the data set says are input and target,
    or the only ones of their kinds.  Labels have the names that the data set gives them.

    Raises:
        DataError: it does not say which features are meant, or recordings have another rate.
    """
    held = _read(Path(path, FEATURES))
    known = (held.get("featuresDict") or {}).get("features")
    if not isinstance(known, dict):
        raise _odd(Path(path, FEATURES), ValueError("no features by name"))
    medium = options.medium.name
    keys = _supervised(_read(Path(path, INFO)))
    example = options.example or _chosen(path, known, _KINDS[medium], keys[:1], medium)
    label = options.label or _chosen(path, known, "classLabel", keys[1:], "label")
    rate = (known.get(example, {}).get("audio") or {}).get("sampleRate")
    if options.rate_hz is not None and rate is not None and int(rate) != options.rate_hz:
        raise DataError(
            f"{path} has recordings of another rate",
            got=f"{rate} samples a second",
            allowed=f"{options.rate_hz}, as data.audio.rate_hz says",
            action=f"set data.audio.rate_hz to {rate}, with a backbone that takes it",
        )
    file = Path(path, f"{label.replace('/', '-')}.labels.txt")
    names = options.names or (names_in(file) if file.is_file() else ())
    return replace(options, example=example, label=label, names=names, unlabelled=_UNLABELLED)


def options_for_prediction(data: DataSpec, medium: str) -> RecordOptions | None:
    """How records are read whose labels do not count; None where a run knows of no features.

    Raises:
        DataError: see :func:`tfds_options`.
    """
    options = RecordOptions.of(data, medium)
    if options.example is None and data.train is not None and is_tfds(data.train):
        return tfds_options(data.train, options)
    return options if options.example is not None else None


def _supervised(info: Mapping[str, Any]) -> Sequence[str]:
    """Names of input and target; none where the data set does not say."""
    items = ((info.get("supervisedKeys") or {}).get("tuple") or {}).get("items") or []
    names = [str(one["featureKey"]) for one in items if "featureKey" in one]
    return names if len(names) == 2 else []


def _chosen(
    path: str | Path, known: Mapping[str, Any], kind: str, said: Sequence[str], field: str
) -> str:
    fit = list(_of_kind(known, kind))
    named = [name for name in said if name in fit]
    if len(named or fit) == 1:
        return (named or fit)[0]
    raise DataError(
        f"{path} does not say which feature is the {field}",
        got=f"the features {listed(sorted(known))}",
        allowed=f"one of the kind {kind}",
        action=f"name it as data.features.{field}",
        path=f"data.features.{field}",
    )


def _of_kind(known: Mapping[str, Any], kind: str) -> Iterator[str]:
    for name, one in known.items():
        if isinstance(one, dict) and kind in one:
            yield name


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, StorageError) as error:
        raise DataError(f"{path} cannot be read", got=str(error)) from error
    if not isinstance(found, dict):
        raise _odd(path, ValueError("no mapping"))
    return found


def _odd(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} is not as TensorFlow Datasets writes it",
        got=f"{type(error).__name__}: {error}",
        action="prepare the data set again, with tensorflow-datasets 4 or later",
    )
