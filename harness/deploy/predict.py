"""Labels and probabilities, or numbers, for new files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras

from harness.data.content import Content, content_of
from harness.data.manifest_columns import ManifestOptions
from harness.data.manifest_paths import manifest_paths, manifest_texts
from harness.data.manifest_rows import is_manifest
from harness.data.record_files import RecordOptions, looks_like_records
from harness.data.record_index import record_table
from harness.data.records import Table, Unreadable
from harness.errors import DataError
from harness.model.multilabel import Multilabel
from harness.model.regression import Regression
from harness.model.task import Task
from harness.tracing import as_written

BATCH = 32
_THREADS = 4


class Item(NamedTuple):
    """What a prediction is made of: a file, with ``content`` a text out of a manifest, or with
    ``table`` the record ``row`` of it."""

    name: str
    content: bytes | None = None
    table: Table | None = None
    row: int = 0

    def read(self) -> bytes:
        """The bytes of the example; raises OSError or Unreadable."""
        if self.table is not None:
            return self.table.content(self.row)
        return Path(self.name).read_bytes() if self.content is None else self.content


@dataclass(frozen=True)
class Prediction:
    """What the model says of one file, or of one text of a manifest (``manifest.csv:LINE``).

    Of several labels at once ``labels`` are those of a probability of one half and more, and
    ``label`` and ``probability`` are None.  Of a regression there are ``values`` alone: the number
    of each target, in its units.

    ``error`` says why there is no prediction; then ``label`` is None and the rest is empty.
    """

    file: str
    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    labels: tuple[str, ...] | None = None
    values: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        if self.error is not None:
            return {"file": self.file, "error": self.error}
        if self.values is not None:
            return {"file": self.file, "values": self.values}
        if self.labels is not None:
            labels = list(self.labels)
            return {"file": self.file, "labels": labels, "probabilities": self.probabilities}
        return {
            "file": self.file,
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
        }


class Predictor:
    """Predicts examples with the weights that ``keras`` holds.

    They are prepared as those of validation and test.

    Args:
        content: what they are; None is pictures.
    """

    def __init__(
        self,
        keras: tf_keras.Model,
        task: Task,
        image_size: int | None,
        content: Content | None = None,
    ) -> None:
        self._task = task
        self._size = image_size
        self._content = content or content_of("image")
        element = self._content.element(image_size)

        @tf.function(input_signature=[tf.TensorSpec([None, *element.shape], element.dtype)])
        @as_written
        def probabilities(examples: tf.Tensor) -> tf.Tensor:
            return task.probabilities(keras(examples, training=False))

        self._probabilities = probabilities

    def files(self, items: Sequence[Item]) -> Iterator[Prediction]:
        """One prediction each, in their order; an unreadable one does not stop the others."""
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(items), BATCH):
                chunk = items[start : start + BATCH]
                yield from self._chunk(chunk, list(pool.map(self._prepare, chunk)))

    def _prepare(self, item: Item) -> tf.Tensor | str:
        try:
            example = self._content.decode(tf.constant(item.read()))
            return self._content.prepare(example, self._size)
        except OSError as error:
            return error.strerror or type(error).__name__
        except Unreadable as fault:
            return str(fault)
        except tf.errors.OpError:
            return self._content.refusal

    def _chunk(
        self, items: Sequence[Item], prepared: Sequence[tf.Tensor | str]
    ) -> Iterator[Prediction]:
        good = [example for example in prepared if not isinstance(example, str)]
        rows = iter(self._probabilities(tf.stack(good)).numpy() if good else ())
        for item, example in zip(items, prepared, strict=True):
            if isinstance(example, str):
                yield Prediction(item.name, error=example)
                continue
            row = next(rows)
            each = dict(zip(self._task.classes, map(float, row), strict=True))
            if isinstance(self._task, Regression):
                yield Prediction(item.name, values=each)
                continue
            if isinstance(self._task, Multilabel):
                there = tuple(name for name, value in each.items() if value >= 0.5)
                yield Prediction(item.name, probabilities=each, labels=there)
                continue
            best = int(row.argmax())
            yield Prediction(item.name, self._task.classes[best], float(row[best]), each)


def expand(
    names: Sequence[str],
    options: ManifestOptions | None = None,
    records: RecordOptions | None = None,
) -> list[Item]:
    """The examples that ``names`` mean.

    A folder stands for all files in it, sorted, not hidden; a manifest (.csv, .tsv) for those that
    its rows name, or for the texts in it, in their order.

    Args:
        options: how a manifest is read.
        records: how TFRecord files are read; None takes a file for an example, whatever it is.

    Raises:
        DataError: a name that is neither file nor folder, a folder with no file, or a manifest
            that cannot be read.
    """
    options = options or ManifestOptions()
    items: list[Item] = []
    for name in names:
        path = Path(name)
        if records is not None and not is_manifest(path) and looks_like_records(path):
            table = record_table(path, records)
            items.extend(Item(table.name(row), None, table, row) for row in range(len(table)))
        elif is_manifest(path) and options.text is not None:
            found = manifest_texts(path, options)
            items.extend(Item(f"{name}:{line}", text.encode()) for line, text in found)
        elif is_manifest(path):
            items.extend(Item(str(file)) for file in manifest_paths(path, options))
        elif path.is_dir():
            inside = sorted(
                p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")
            )
            if not inside:
                raise DataError(
                    "the folder holds no file",
                    got=name,
                    action=f"name a folder with {options.medium.many}",
                )
            items.extend(Item(str(file)) for file in inside)
        elif path.exists():
            items.append(Item(str(path)))
        else:
            raise DataError(
                "there is no such file", got=name, action="correct the name of the file or folder"
            )
    return items
