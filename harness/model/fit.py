"""Whether a backbone fits at both ends: what it is given, and what the head is given of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from harness.errors import DataError


def check_fit(layer: tf_keras.layers.Layer, takes: tf.TensorSpec) -> None:
    """Holds that a backbone takes such examples and gives one vector of features for each.

    Args:
        takes: one example as it is given to it.

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
    _check_features(features)


def _check_features(features: Any) -> None:
    if isinstance(features, Mapping):
        raise DataError(
            "the backbone gives several outputs, and none is chosen",
            got=", ".join(sorted(map(str, features))),
            allowed="the name of one of them in backbone.output",
            action="set backbone.output, as to pooled_output",
            path="backbone.output",
        )
    shape = getattr(features, "shape", None)
    if shape is None or len(shape) != 2 or shape[-1] is None:
        got = f"shape {tuple(shape)}" if shape is not None else type(features).__name__
        raise DataError(
            "the backbone gives no feature vector",
            got=got,
            allowed="one tensor [batch, features] of known width",
            action="use the feature-vector version of the module",
            path="backbone.handle",
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


def _accepted(layer: tf_keras.layers.Layer) -> str | None:
    """The input signatures of a restored function, in words; None when there are none."""
    words = (f"{spec.dtype.name} {spec.shape.as_list()}" for spec in accepted(layer))
    return " or ".join(dict.fromkeys(words)) or None


def first_line(error: Exception) -> str:
    """The first line of what an error says, at most 300 characters of it."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
