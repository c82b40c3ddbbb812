"""What decides the features of a data set: the parts of its key in the cache."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from harness.data.content import content_of_spec, least_side
from harness.data.feature_store import digest_of_contents
from harness.data.index import ExampleIndex, metadata_digest
from harness.data.packed_examples import PackedExamples
from harness.model.assemble import Assembled
from harness.model.pixels import pixels_of
from harness.spec import Spec
from harness.tracing import as_written

PREPARATION = 1
"""Of how examples are read, resized and augmented: raise it when that changes what features are."""


_SAMPLES, _SAMPLE_BYTES = 16, 64 << 10


def data_key(source: ExampleIndex | PackedExamples) -> str | None:
    """A digest of the examples of a source, whatever is learned of them.

    None of a plug-in's, of which only the names are known, and not what is behind them.
    """
    if isinstance(source, PackedExamples) or not isinstance(source.names, list | tuple):
        return source.digest
    if source.texts:
        return f"texts:{digest_of_contents(source.texts)}"
    if not source.sizes or not source.mtimes:
        return None
    known = metadata_digest(source.names, source.sizes, source.mtimes)
    return f"{known} {_sample(source)}"


def _sample(source: ExampleIndex) -> str:
    """Of some files their first bytes: two corpora may have names, sizes and times alike."""
    found = []
    for at in np.linspace(0, len(source) - 1, min(_SAMPLES, len(source))).astype(int).tolist():
        try:
            with (source.root / source.names[at]).open("rb") as file:
                found.append(file.read(_SAMPLE_BYTES))
        except OSError:  # a corrupt one; the others have to do
            found.append(b"")
    return digest_of_contents(found)


def facts_of(
    spec: Spec, model: Assembled, data: str, image_size: int | None, copy: int | None
) -> dict[str, Any]:
    """JSON values that decide what the features of an entry are.

    Args:
        data: of :func:`data_key`.
        copy: number of an augmented copy; None of the examples as they are.
    """
    content, audio = content_of_spec(spec), spec.data.audio
    facts: dict[str, Any] = {
        "preparation": PREPARATION,
        "backbone": model.backbone.digest,
        "pooling": spec.head.pooling,
        "called": [spec.backbone.signature, spec.backbone.output],
        "pixels": pixels_of(spec, model.backbone) if spec.medium == "image" else None,
        "medium": content.medium.name,
        "audio": None if audio is None else audio.model_dump(mode="json"),
        "image_size": image_size,
        "least_side": least_side(spec),
        "data": data,
        "precision": spec.training.precision,
        "tensorflow": [tf.__version__, tf_keras.__version__],
    }
    if model.backbone.preprocessor_digest is not None:
        facts["preprocessor"] = {
            "digest": model.backbone.preprocessor_digest,
            "max_length": spec.backbone.max_length,
            "inputs": spec.backbone.inputs,
        }
    if spec.data.sensitive:  # nobody else shares them, whoever the cache is shared with
        facts["private"] = os.getuid()
    if copy is not None:
        augment = spec.data.augment.model_dump(mode="json")
        facts |= {"augment": augment, "seed": spec.training.seed, "copy": copy}
    return facts


def feature_shape(model: Assembled, spec: Spec, image_size: int | None) -> tuple[int, ...] | None:
    """Of the features of one example; None where it differs from example to example."""
    element = content_of_spec(spec).element(image_size)
    one = tf.TensorSpec([2, *element.shape], element.dtype)
    shape = model.features.output_shape[1:]
    if None in shape:
        call = as_written(lambda x: model.features(x, training=False))
        traced = tf.function(call).get_concrete_function(one)
        shape = traced.structured_outputs.shape.as_list()[1:]
    return None if None in shape else tuple(shape)
