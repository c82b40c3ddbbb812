"""Labels and probabilities for new files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from harness.data.decode import prepare_image
from harness.data.manifest_columns import ManifestOptions
from harness.data.manifest_paths import manifest_paths
from harness.data.manifest_rows import is_manifest
from harness.errors import DataError
from harness.model.task import Task

BATCH = 32
_THREADS = 4


@dataclass(frozen=True)
class Prediction:
    """What the model says of one file.

    ``error`` says why there is no prediction; then ``label`` is None and the rest is empty.
    """

    file: str
    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        if self.error is not None:
            return {"file": self.file, "error": self.error}
        return {
            "file": self.file,
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
        }


class Predictor:
    """Predicts files with the weights that ``keras`` holds.

    Pictures go through :func:`harness.data.decode.prepare_image`, the preparation of validation
    and test.
    """

    def __init__(self, keras: tf_keras.Model, task: Task, image_size: int) -> None:
        self._task = task
        self._size = image_size

        @tf.function(input_signature=[tf.TensorSpec([None, image_size, image_size, 3], tf.uint8)])
        def probabilities(images: tf.Tensor) -> tf.Tensor:
            return task.probabilities(keras(images, training=False))

        self._probabilities = probabilities

    def images(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, outputs] for prepared pictures, uint8 [N, S, S, 3]."""
        parts = [
            self._probabilities(images[start : start + BATCH]).numpy()
            for start in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self._task.outputs), np.float32)

    def files(self, files: Sequence[Path]) -> Iterator[Prediction]:
        """One prediction a file, in their order; an unreadable file does not stop the others."""
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(files), BATCH):
                chunk = files[start : start + BATCH]
                yield from self._chunk(chunk, list(pool.map(self._prepare, chunk)))

    def _prepare(self, path: Path) -> np.ndarray | str:
        try:
            return prepare_image(tf.constant(path.read_bytes()), self._size).numpy()
        except OSError as error:
            return error.strerror or type(error).__name__
        except tf.errors.OpError:
            return "is no JPEG, PNG, GIF or BMP picture, or a damaged one"

    def _chunk(
        self, files: Sequence[Path], prepared: Sequence[np.ndarray | str]
    ) -> Iterator[Prediction]:
        good = [image for image in prepared if not isinstance(image, str)]
        rows = iter(self.images(np.stack(good)) if good else ())
        for path, image in zip(files, prepared, strict=True):
            if isinstance(image, str):
                yield Prediction(str(path), error=image)
                continue
            row = next(rows)
            best = int(row.argmax())
            yield Prediction(
                str(path),
                self._task.classes[best],
                float(row[best]),
                dict(zip(self._task.classes, map(float, row), strict=True)),
            )


def expand(names: Sequence[str], options: ManifestOptions | None = None) -> list[Path]:
    """The files that ``names`` mean.

    A folder stands for all files in it, sorted, not hidden; a manifest (.csv, .tsv) for those that
    its rows name, in their order.

    Args:
        options: how a manifest is read.

    Raises:
        DataError: a name that is neither file nor folder, a folder with no file, or a manifest
            that cannot be read.
    """
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if is_manifest(path):
            files.extend(manifest_paths(path, options or ManifestOptions()))
        elif path.is_dir():
            inside = sorted(
                p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")
            )
            if not inside:
                raise DataError(
                    "the folder holds no file", got=name, action="name a folder with pictures"
                )
            files.extend(inside)
        elif path.exists():
            files.append(path)
        else:
            raise DataError(
                "there is no such file", got=name, action="correct the name of the file or folder"
            )
    return files
