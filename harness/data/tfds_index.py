"""The index of a split of a directory of TensorFlow Datasets.  Free of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.data.record_files import RecordOptions
from harness.data.record_index import record_index
from harness.data.records import RecordIndex
from harness.data.tfds import tfds_files, tfds_options


def tfds_index(
    path: str | Path, classes: Sequence[str] | None, options: RecordOptions
) -> RecordIndex:
    """The examples of the split ``options.split``.

    Args:
        classes: label names, of the training data; None takes those of the data set.

    Raises:
        DataError: the directory or its files cannot be used.
    """
    files, lengths = tfds_files(path, options.split)
    found = tfds_options(path, options)
    what = f"the split {options.split} of {path}"
    return record_index(path, found, classes, files=files, lengths=lengths, what=what)
