"""Keras applications as backbones: without their top, with the weights that the spec names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tf_keras
from tf_keras.src.utils import data_utils  # applications have no other place to say it

from harness.errors import DataError
from harness.model.fit import first_line
from harness.model.norm import SyncBatchNorm
from harness.model.remote import IMAGENET, Shelves, has_checksum, missing, remote_of
from harness.spec.keras_names import SCHEME
from harness.spec.models_model import Backbone as BackboneSpec

if TYPE_CHECKING:
    from harness.distribute.base import Distribution

RANDOM = "random"


def load_application(
    name: str, weights: str, sizes: Sequence[int], pooling: str | None = None
) -> tf_keras.Model:
    """A Keras application [b, S, S, 3] to [b, f]: its last feature map, pooled.

    Args:
        weights: ``imagenet`` takes them from Keras' cache, into which :mod:`harness.model.fetch`
            brings them; ``random``; or the path of a file of weights without the top (``.h5``).
        sizes: of the pictures that it is to take; of several it takes any.
        pooling: ``head.pooling``; None averages.

    Raises:
        DataError: the weights are not there, changed or of another model, or the pictures are too
            small.
    """
    make: Callable[..., tf_keras.Model] = getattr(tf_keras.applications, name)
    side = sizes[0] if len(sizes) == 1 else None
    given = None if weights == RANDOM else weights
    fetched = _fetched(name, sizes) if weights == IMAGENET else None
    if given is not None and fetched is None and not Path(given).is_file():
        raise DataError(
            "there is no such file of weights",
            got=weights,
            allowed=f"{IMAGENET}, {RANDOM}, or a file that save_weights of Keras wrote",
            action="correct backbone.weights",
            path="backbone.weights",
        )
    try:
        kind = "max" if pooling == "max" else "avg"
        with _taking(fetched):
            return make(include_top=False, weights=given, pooling=kind, input_shape=(side, side, 3))
    except Exception as error:  # whatever urllib, h5py or Keras raise
        raise _refused(name, weights, error) from error


@contextmanager
def _taking(fetched: Path | None) -> Iterator[None]:
    """Within, Keras takes this file where it would fetch weights by itself.

    It would ask the network where it may not write to its cache.  And by the file's path instead of
    the word ``imagenet`` it would build some applications without a layer (EfficientNet).
    """
    held = data_utils.get_file

    def take(fname: str, *args: Any, **options: Any) -> str:
        assert fetched is not None and fname == fetched.name, f"{fname} is in no table of ours"
        return str(fetched)

    data_utils.get_file = take
    try:
        yield
    finally:
        data_utils.get_file = held


def _fetched(name: str, sizes: Sequence[int]) -> Path:
    """The file of ImageNet weights in Keras' cache.

    Raises:
        DataError: it is not there, or not the one that was published.
    """
    wanted = BackboneSpec(handle=SCHEME + name)
    remote = remote_of(wanted, sizes, Shelves.of(os.environ))
    assert remote is not None, "these weights are fetched"
    if not remote.is_here():
        raise missing(remote)
    if not has_checksum(remote.path, remote.checksum):
        raise DataError(
            f"the ImageNet weights of {name} in the cache are not those that were published",
            got=str(remote.path),
            allowed=f"a file with the checksum {remote.checksum}",
            action="remove it, and run `harness stage` again",
            path="backbone.handle",
        )
    return remote.path


def _refused(name: str, weights: str, error: Exception) -> DataError:
    said = f"{type(error).__name__}: {first_line(error)}"
    if "nput size must be at least" in str(error):
        return DataError(
            f"the pictures are too small for {name}",
            got=said,
            action="set data.image_size to more",
            path="data.image_size",
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
