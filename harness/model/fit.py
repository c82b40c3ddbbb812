"""Whether a backbone fits at both ends: what it is given, and what the head is given of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from harness.errors import DataError

ANY = "any"
_BEFORE = (
    *("Exception encountered when calling", "Graph execution error", "Detected at node"),
    *('File "', "<stack traces unavailable>"),
)


def check_fit(
    layer: tf_keras.layers.Layer, takes: tf.TensorSpec, pooling: str | None = None
) -> None:
    """Holds that a backbone takes such examples and gives features that a head can be put on.

    Args:
        takes: one example as it is given to it.
        pooling: ``head.pooling``; :data:`ANY` where nobody has chosen it yet.

    Raises:
        DataError: it does not.
    """
    example = tf_keras.Input(takes.shape, dtype=takes.dtype)
    try:
        features = layer(example)
    except Exception as error:
        # What KerasLayer says of backbone.output.
        if "output key" in str(error) or "`output_key`" in str(error):
            raise DataError(
                "the backbone has no such output",
                got=first_line(error),
                action="correct backbone.output, or leave it out where there is one output only",
                path="backbone.output",
            ) from error
        named = named_inputs(layer) if takes.dtype == tf.string else []
        if named and all(spec.dtype != tf.string for spec in named[0].values()):
            raise DataError(
                "the backbone takes no texts, but what a preprocessor makes of them",
                got=in_words(named[0]),
                allowed="a module that takes string [batch], or one with a preprocessor",
                action="set backbone.preprocessor to the module that belongs to it",
                path="backbone.preprocessor",
            ) from error
        sizes = "".join(f", {side}" for side in takes.shape)
        field = {"images": "data.image_size", "audio": "data.audio"}.get(takes.name)
        other = f"set {field} to what the backbone takes, or " if field else ""
        raise DataError(
            f"the backbone does not take these {takes.name}",
            got=f"{takes.dtype.name} [batch{sizes}]",
            allowed=_accepted(layer) or first_line(error),
            action=f"{other}take another backbone",
            path="backbone.handle",
        ) from error
    check_features(features, pooling)


def check_features(features: Any, pooling: str | None) -> None:
    """Holds that a head can be put on what a backbone gives.

    Args:
        features: symbolic or of a batch.
        pooling: as in :func:`check_fit`.

    Raises:
        DataError: it cannot.
    """
    if isinstance(features, Mapping):
        raise DataError(
            "the backbone gives several outputs, and none is chosen",
            got=in_words(features),
            allowed="the name of one of them in backbone.output",
            action="set backbone.output, as to pooled_output",
            path="backbone.output",
        )
    shape = getattr(features, "shape", None)
    rank = len(shape) if shape is not None and shape.rank is not None else 0
    got = f"shape {tuple(shape)}" if shape is not None else type(features).__name__
    if shape is None or rank < 2 or shape[-1] is None:
        raise DataError(
            "the backbone gives no feature vector",
            got=got,
            allowed="one tensor [batch, features] of known width, or one with places between them",
            action="use the feature-vector version of the module",
            path="backbone.handle",
        )
    if rank > 2 and pooling is None:
        raise DataError(
            "the backbone gives features of several places of an example",
            got=got,
            allowed="a vector [batch, features], or head.pooling",
            action="set head.pooling: average or max, or use the feature-vector version",
            path="head.pooling",
        )
    if rank == 2 and pooling not in (None, ANY):
        raise DataError(
            "the backbone gives one vector already, there is nothing to pool",
            got=got,
            allowed="head.pooling: null",
            action="remove it",
            path="head.pooling",
        )


def accepted(layer: tf_keras.layers.Layer) -> list[tf.TensorSpec]:
    """What a restored function says that it takes, each batch once; nothing where it is unknown."""
    function = getattr(getattr(layer, "_func", None), "__call__", None)  # noqa: B004 - its signatures
    found = {
        spec
        for concrete in getattr(function, "concrete_functions", ())
        for spec in tf.nest.flatten(concrete.structured_input_signature[0])
        # That of a `training` that is a tensor is no example.
        if isinstance(spec, tf.TensorSpec) and spec.dtype != tf.bool
    }
    return sorted((tf.TensorSpec(spec.shape, spec.dtype) for spec in found), key=str)


def named_inputs(layer: tf_keras.layers.Layer) -> list[dict[str, tf.TensorSpec]]:
    """The forms in which a module takes several tensors by name; none where it takes one alone, or
    does not say what it takes."""
    if isinstance(layer, tf_keras.Model):
        return [{one.name: tf.TensorSpec(one.shape, one.dtype) for one in layer.inputs}]
    function, signature = getattr(layer, "_func", None), getattr(layer, "_signature", None)
    if function is not None and signature is not None:
        found = [function.signatures[signature].structured_input_signature[1]]
    else:
        call = getattr(function, "__call__", None)  # noqa: B004 - its signatures
        arguments = [
            concrete.structured_input_signature[0]
            for concrete in getattr(call, "concrete_functions", ())
        ]
        found = [given[0] for given in arguments if given and isinstance(given[0], Mapping)]
    forms = [
        {str(name): tf.TensorSpec(spec.shape, spec.dtype) for name, spec in sorted(form.items())}
        for form in found
        if all(isinstance(spec, tf.TensorSpec) for spec in form.values())
    ]
    return [form for at, form in enumerate(forms) if form not in forms[:at]]


def in_words(tensors: Mapping[str, Any]) -> str:
    """Names, types and shapes of tensors or of their specs, as ``input_mask int32 [batch, 128]``;
    the first side is the batch."""
    return ", ".join(f"{name} {tensor_words(one)}" for name, one in sorted(tensors.items()))


def tensor_words(one: Any) -> str:
    """Type and shape of a tensor or its spec, whose first side is the batch."""
    shape = getattr(one, "shape", None)
    if not isinstance(shape, tf.TensorShape):
        return type(one).__name__
    if shape.rank is None:
        return f"{one.dtype.name} of any shape"
    sides = ["any" if side is None else str(side) for side in shape.as_list()[1:]]
    return f"{one.dtype.name} [{', '.join(['batch', *sides][: shape.rank])}]"


def _accepted(layer: tf_keras.layers.Layer) -> str | None:
    """The input signatures of a restored function, in words; None when there are none."""
    words = (f"{spec.dtype.name} {spec.shape.as_list()}" for spec in accepted(layer))
    return " or ".join(dict.fromkeys(words)) or None


def first_line(error: Exception) -> str:
    """The first line of what an error says, at most 300 characters of it; lines of where it arose,
    which Keras and TensorFlow put before it, do not count."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(_BEFORE)]
    return (said or lines)[0][:300] if lines else type(error).__name__
