"""Keras applications as backbones: without their top, with the weights that the spec names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tf_keras

from harness.errors import DataError
from harness.model.fit import first_line
from harness.model.norm import SyncBatchNorm

if TYPE_CHECKING:
    from harness.distribute.base import Distribution

IMAGENET, RANDOM = "imagenet", "random"


def load_application(
    name: str, weights: str, sizes: Sequence[int], pooling: str | None = None
) -> tf_keras.Model:
    """A Keras application [b, S, S, 3] to [b, f]: its last feature map, pooled.

    Args:
        weights: ``imagenet`` takes them from Keras' cache, or from the network where they are not
            there; ``random``; or the path of a file of weights without the top (``.h5``).
        sizes: of the pictures that it is to take; of several it takes any.
        pooling: ``head.pooling``; None averages.

    Raises:
        DataError: the weights are not there or are of another model, or the pictures are too small.
    """
    make: Callable[..., tf_keras.Model] = getattr(tf_keras.applications, name)
    side = sizes[0] if len(sizes) == 1 else None
    given = {IMAGENET: IMAGENET, RANDOM: None}.get(weights, weights)
    if given == weights != IMAGENET and not Path(weights).is_file():
        raise DataError(
            "there is no such file of weights",
            got=weights,
            allowed=f"{IMAGENET}, {RANDOM}, or a file that save_weights of Keras wrote",
            action="correct backbone.weights",
            path="backbone.weights",
        )
    try:
        kind = "max" if pooling == "max" else "avg"
        return make(include_top=False, weights=given, pooling=kind, input_shape=(side, side, 3))
    except Exception as error:  # whatever urllib, h5py or Keras raise
        raise _refused(name, weights, error) from error


def _refused(name: str, weights: str, error: Exception) -> DataError:
    said = f"{type(error).__name__}: {first_line(error)}"
    if "nput size must be at least" in str(error):
        return DataError(
            f"the pictures are too small for {name}",
            got=said,
            action="set data.image_size to more",
            path="data.image_size",
        )
    if weights == IMAGENET and "fetch failure" in str(error):
        return DataError(
            f"the ImageNet weights of {name} are not in Keras' cache and cannot be downloaded",
            got=said,
            allowed=f"weights in {os.environ.get('KERAS_HOME', '~/.keras')}/models, or a machine "
            "that reaches where Keras has them",
            action=f"run `harness inspect keras:{name}` where there is internet and the same "
            "cache, or name a file in backbone.weights",
            path="backbone.handle",
        )
    return DataError(
        f"the weights do not fit {name} without its top",
        got=f"{weights}: {said}",
        allowed="a file that save_weights of this model wrote, with include_top=False",
        action="correct backbone.weights; one that was saved as NAME.weights.h5 keeps such a name",
        path="backbone.weights",
    )


def digest_of_weights(name: str, model: tf_keras.Model) -> str:
    """sha256 hex over the application's name and the names, types, shapes and bits of its weights.

    Of the values and not of a file: the same weights may come from several.
    """
    whole = hashlib.sha256(f"harness keras 1\n{name}\n".encode())
    for weight in model.weights:
        value = np.ascontiguousarray(weight.numpy())
        whole.update(f"{weight.name}\n{value.dtype.str}{value.shape}\n".encode())
        whole.update(value.tobytes())
    return whole.hexdigest()


def with_global_norms(model: tf_keras.Model, distribution: Distribution) -> tf_keras.Model:
    """The same model whose batch normalisations go by the global batch, in training mode.

    Keras' own take the moments of one replica's rows.
    """

    def replaced(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        if not isinstance(layer, tf_keras.layers.BatchNormalization):
            return layer.__class__.from_config(layer.get_config())
        config: dict[str, Any] = layer.get_config()
        axis = layer.axis[0] if isinstance(layer.axis, list | tuple) else layer.axis
        assert axis in (-1, len(layer.input_shape) - 1), "applications have their channels last"
        kept = {key: config[key] for key in ("name", "momentum", "epsilon", "center", "scale")}
        return SyncBatchNorm(distribution, **kept)

    made = tf_keras.models.clone_model(model, clone_function=replaced)
    made.set_weights(model.get_weights())
    return made
