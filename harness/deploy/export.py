"""The trained model as a SavedModel that any TensorFlow program can serve."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from harness.data.decode import prepare_image
from harness.errors import TrainingError, UsageError
from harness.model.backbone import digest_of
from harness.model.task import Task
from harness.runs.files import PRIVATE, apply_access, fsync_dir, make_dir, to_json, write_atomic
from harness.runs.storage import storage_error

_PROBES = 3
_TOLERANCE = 1e-5
"""Probabilities of the reloaded export may differ by this: its graph is optimised anew."""


@dataclass(frozen=True)
class Exported:
    """Where an export is, its sha256, and how far its answers were from the run's."""

    path: Path
    digest: str
    largest_difference: float


class _Module(tf.Module):
    """Preparation, model and labels in one.

    Holds the variables and the loaded backbone, not the Keras layers: Keras would save every
    layer's training function too, which nobody serves.
    """

    def __init__(self, keras: tf_keras.Model, task: Task, image_size: int) -> None:
        super().__init__(name="harness")
        self.kept_variables = list(keras.weights)
        backbone = next((layer for layer in keras.layers if layer.name == "backbone"), None)
        self.kept_backbone = getattr(backbone, "_func", None)  # its lookup tables, if any
        self.labels = tf.constant(task.classes)
        size = image_size

        @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8, "images")])
        def images(images: tf.Tensor) -> dict[str, tf.Tensor]:
            probabilities = task.probabilities(keras(images, training=False))
            best = tf.argmax(probabilities, axis=-1)
            return {"probabilities": probabilities, "label": tf.gather(self.labels, best)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "encoded")])
        def encoded(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
            prepared = tf.map_fn(
                lambda one: prepare_image(one, size),
                encoded,
                fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
            )
            return images(prepared)

        self.images, self.encoded = images, encoded


def export(
    keras: tf_keras.Model,
    task: Task,
    image_size: int,
    folder: Path,
    card: Mapping[str, Any],
    access: str = PRIVATE,
) -> Exported:
    """Writes a SavedModel to ``folder``, reloads it, and holds its answers against the model's.

    Signatures: ``serving_default`` takes ``encoded`` (string [N], whole JPEG, PNG, GIF or BMP
    files), ``images`` takes prepared pictures (uint8 [N, S, S, 3]); both give ``probabilities``
    (float32 [N, classes]) and ``label`` (string [N]).  Beside it lie ``labels.txt`` and
    ``card.json``.

    Raises:
        UsageError: ``folder`` is there already.
        TrainingError: the reloaded model answers differently.
        StorageError: it cannot be written.
    """
    if folder.exists():
        raise UsageError(
            "the place for the export is taken", got=str(folder), action="choose another with --to"
        )
    try:
        make_dir(folder.parent, access)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    except OSError as error:
        raise storage_error(error, folder.parent) from error
    try:
        module = _Module(keras, task, image_size)
        signatures = {"serving_default": module.encoded, "images": module.images}
        tf.saved_model.save(module, str(temporary), signatures=signatures)
        difference = _largest_difference(module, temporary, image_size)
        write_atomic(temporary / "labels.txt", "\n".join(task.classes) + "\n")
        write_atomic(temporary / "card.json", to_json(dict(card)))
        digest = digest_of(temporary)
        apply_access(temporary, access)
        temporary.rename(folder)
        fsync_dir(folder.parent)
    except OSError as error:
        raise storage_error(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(folder, digest, difference)


def _largest_difference(module: _Module, folder: Path, image_size: int) -> float:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (_PROBES, image_size, image_size, 3), np.uint8)
    files = tf.stack([tf.io.encode_png(image) for image in images])
    loaded = tf.saved_model.load(str(folder))
    wanted = module.images(tf.constant(images))["probabilities"].numpy()
    found = {
        "images": loaded.signatures["images"](images=tf.constant(images)),
        "serving_default": loaded.signatures["serving_default"](encoded=files),
    }
    largest = 0.0
    for name, answer in found.items():
        difference = float(np.abs(answer["probabilities"].numpy() - wanted).max())
        if not difference <= _TOLERANCE:  # also true for NaN
            raise TrainingError(
                f"the exported model answers differently from the run (signature {name})",
                got=f"probabilities differ by {difference:.2g}",
                allowed=f"at most {_TOLERANCE:.0e}",
                action="report this with the backbone's handle; the export was not kept",
            )
        largest = max(largest, difference)
    return largest
