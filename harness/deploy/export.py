"""The trained model as a SavedModel that any TensorFlow program can serve."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras

from harness.data.decode import prepare_image
from harness.errors import TrainingError, UsageError
from harness.model.multilabel import Multilabel
from harness.model.pinned import digest_of
from harness.model.regression import Regression
from harness.model.task import Task
from harness.runs.files import PRIVATE, apply_access, fsync_dir, make_dir, to_json, write_atomic
from harness.runs.storage import storage_error

_PROBES = 3
_TEXTS = ("a short text", "Another one, which is longer and ends in a question?", "3")
_TOLERANCE = 1e-5
"""Probabilities of the reloaded export may differ by this: its graph is optimised anew."""
_NUMBERS = 10.0
"""So many times as much may numbers, in units of their spread: they are not squeezed into 0..1."""


@dataclass(frozen=True)
class Exported:
    """Where an export is, its sha256, and how far its answers were from the run's."""

    path: Path
    digest: str
    largest_difference: float


Answers = Callable[[tf.Tensor], dict[str, tf.Tensor]]


class _Module(tf.Module):
    """Model and labels.

    Holds the variables and the loaded backbone, not the Keras layers: Keras would save every
    layer's training function too, which nobody serves.
    """

    def __init__(self, keras: tf_keras.Model, task: Task) -> None:
        super().__init__(name="harness")
        self.kept_variables = list(keras.weights)
        backbone = next((layer for layer in keras.layers if layer.name == "backbone"), None)
        inner = getattr(backbone, "inner", None)
        # Its lookup tables, if any, and those of a preprocessor.
        self.kept_backbone = getattr(inner, "kept", getattr(inner, "_func", None))
        self.labels = tf.constant(task.classes)


class _Served(NamedTuple):
    """The signatures by their names, and for each some examples to try it on."""

    signatures: dict[str, Any]
    probes: dict[str, tf.Tensor]


def _served(module: _Module, keras: tf_keras.Model, task: Task, least: int) -> _Served:
    def answers(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = task.probabilities(keras(examples, training=False))
        if isinstance(task, Regression):
            return {"values": probabilities}
        if isinstance(task, Multilabel):
            return {"probabilities": probabilities, "present": probabilities >= 0.5}
        best = tf.argmax(probabilities, axis=-1)
        return {"probabilities": probabilities, "label": tf.gather(module.labels, best)}

    takes = keras.inputs[0]
    if takes.dtype == tf.string:
        return _texts(answers)
    if len(takes.shape) == 2:
        return _recordings(answers, takes.shape[1])
    return _images(answers, takes.shape[1], least)


def _texts(answers: Answers) -> _Served:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def texts(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(tf.strings.strip(texts))

    return _Served({"serving_default": texts}, {"serving_default": tf.constant(_TEXTS)})


def _recordings(answers: Answers, samples: int) -> _Served:
    @tf.function(input_signature=[tf.TensorSpec([None, samples], tf.float32, "audio")])
    def audio(audio: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(audio)

    drawn = np.random.default_rng(0).uniform(-0.5, 0.5, (_PROBES, samples))
    return _Served({"serving_default": audio}, {"serving_default": tf.constant(drawn, tf.float32)})


def _images(answers: Answers, size: int, least: int) -> _Served:
    """Signatures with the preparation of pictures in them."""

    @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8, "images")])
    def images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(images)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "encoded")])
    def encoded(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        prepared = tf.map_fn(
            lambda one: prepare_image(one, size, least),
            encoded,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
        )
        return images(prepared)

    drawn = np.random.default_rng(0).integers(0, 256, (_PROBES, size, size, 3), np.uint8)
    files = tf.stack([tf.io.encode_png(image) for image in drawn])
    return _Served(
        {"serving_default": encoded, "images": images},
        {"serving_default": files, "images": tf.constant(drawn)},
    )


def export(
    keras: tf_keras.Model,
    task: Task,
    folder: Path,
    card: Mapping[str, Any],
    access: str = PRIVATE,
    least: int = 0,
) -> Exported:
    """Writes a SavedModel to ``folder``, reloads it, and holds its answers against the model's.

    Signatures: ``serving_default`` takes ``encoded`` (string [N], whole JPEG, PNG, GIF, BMP or WebP
    files), ``images`` takes prepared pictures (uint8 [N, S, S, 3]).  Of a model of texts
    ``serving_default`` takes ``texts`` (string [N], UTF-8), of one of recordings ``audio`` (float32
    [N, samples], of the rate and length of the training).  All give ``probabilities`` (float32
    [N, classes]) and ``label`` (string [N]); of several labels at once in its place
    ``present`` (bool [N, classes]).  Of a regression they give ``values`` alone (float32
    [N, targets], in the units of the targets).  Beside it lie ``labels.txt``, which names classes
    or targets, and ``card.json``.

    Args:
        least: how small pictures may be decoded, see :func:`harness.data.decode.decode`.

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
        module = _Module(keras, task)
        served = _served(module, keras, task, least)
        tf.saved_model.save(module, str(temporary), signatures=served.signatures)
        difference = _largest_difference(served, temporary, task)
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


def _largest_difference(served: _Served, folder: Path, task: Task) -> float:
    answer = "values" if isinstance(task, Regression) else "probabilities"
    loaded = tf.saved_model.load(str(folder))
    largest = 0.0
    for name, function in served.signatures.items():
        probes = served.probes[name]
        wanted = function(probes)[answer].numpy()
        # By position a loaded signature takes nothing; it has one input.
        (takes,) = loaded.signatures[name].structured_input_signature[1]
        found = loaded.signatures[name](**{takes: probes})[answer].numpy()
        difference = float((np.abs(found - wanted) / _unit(task, wanted)).max())
        if not difference <= _TOLERANCE:  # also true for NaN
            raise TrainingError(
                f"the exported model answers differently from the run (signature {name})",
                got=f"{answer} differ by {difference:.2g}",
                allowed=f"at most {_TOLERANCE:.0e}",
                action="report this with the backbone's handle; the export was not kept",
            )
        largest = max(largest, difference)
    return largest


def _unit(task: Task, wanted: np.ndarray) -> np.ndarray | float:
    """What a difference of answers is measured in: 1 for probabilities; for numbers what the output
    is in their units, and as much of their mean as float32 rounds off."""
    if not isinstance(task, Regression):
        return 1.0
    mean, std = (np.asarray(each, np.float64) for each in (task.scaling.mean, task.scaling.std))
    return np.asarray(_NUMBERS * (std + np.abs(wanted - mean)) + np.abs(mean) / _NUMBERS)
