"""The pretrained part: found, trusted, pinned by digest, loaded, and checked at both ends."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from harness.errors import DataError
from harness.model.fit import first_line
from harness.model.own_model import digest_of_own, load_own, own_path
from harness.model.pinned import digest_of, is_saved_model
from harness.model.remote import Shelves, missing, remote_of
from harness.model.text_ops import import_text_ops
from harness.plugins import PREFIX, registry
from harness.spec.models_model import Backbone as BackboneSpec

_UNKNOWN_OP = re.compile(r"Op type not registered '(\w+)'")


@dataclass(frozen=True)
class Backbone:
    """A loaded pretrained module.

    ``layer`` maps float32 images [b, S, S, 3] in the range of ``backbone.pixels`` or
    texts, string [b], or recordings, float32 [b, samples] in -1..1, to features [b, f].
    """

    handle: str
    layer: tf_keras.layers.Layer
    digest: str | None
    path: Path | None
    pixels: str | None = None
    """What it was given in the run that it is from, as in ``backbone.pixels``; else None."""

    def parameters(self) -> int:
        """Number of scalars in all its variables."""
        return sum(int(weight.shape.num_elements() or 0) for weight in self.layer.weights)

    def trainable(self) -> list[tf.Variable]:
        """What of it can be trained: nothing where a signature is called, or a TF1 module."""
        if getattr(self.layer, "_signature", None) is not None:
            return []
        self.layer.trainable = True
        found = list(self.layer.trainable_weights)
        self.layer.trainable = False
        return found


class Called(NamedTuple):
    """What of a SavedModel is called: ``backbone.signature`` and ``backbone.output`` of a spec."""

    signature: str | None = None
    output: str | None = None


def input_of(element: tf.TensorSpec) -> tf.TensorSpec:
    """One example as a backbone takes it, by what the model takes: pictures are float32 here."""
    dtype = tf.float32 if element.dtype == tf.uint8 else element.dtype
    return tf.TensorSpec(element.shape, dtype, element.name)


def locate(handle: str) -> Path:
    """The local folder of a Hub handle; downloads nothing, see :mod:`harness.model.fetch`.

    Raises:
        DataError: the folder does not exist, or that of a remote handle is not in the Hub cache.
    """
    remote = remote_of(BackboneSpec(handle=handle), (), Shelves.of(os.environ))
    if remote is not None:
        if remote.is_here():
            return remote.path
        raise missing(remote)
    folder = Path(handle.removeprefix("hub:").removeprefix("file://"))
    if not folder.is_dir():
        raise DataError(
            "the backbone folder does not exist",
            got=str(folder),
            allowed="a folder that holds a SavedModel",
            action="correct the path, or prepare the backbone first",
            path="backbone.handle",
        )
    return folder


def load_hub(folder: Path, handle: str, digest: str, called: Called) -> Backbone:
    """Loads a SavedModel through ``hub.KerasLayer``, frozen.

    Raises:
        DataError: no SavedModel, or one that cannot be called.
        EnvironmentNotAble: it needs TensorFlow Text, which is not installed.
    """
    if not is_saved_model(folder):
        raise DataError(
            "the backbone folder is no SavedModel",
            got=f"{folder} without saved_model.pb",
            allowed="a TF2 SavedModel in Hub format",
            action="point backbone.handle at the folder that holds saved_model.pb",
            path="backbone.handle",
        )
    try:
        layer = _loaded(folder, called)
    except Exception as error:  # the loader raises what the file provokes
        unknown = _UNKNOWN_OP.search(str(error))
        if unknown is None:
            raise _unloadable(error, called) from error
        import_text_ops(unknown.group(1))
        try:
            layer = _loaded(folder, called)
        except Exception as again:
            raise _unloadable(again, called) from again
    return Backbone(handle, layer, digest, folder)


def _loaded(folder: Path, called: Called) -> tf_keras.layers.Layer:
    return hub.KerasLayer(
        str(folder),
        trainable=False,
        signature=called.signature,
        output_key=called.output,
        name="backbone",
    )


def _unloadable(error: Exception, called: Called) -> DataError:
    is_named = called.signature is not None
    return DataError(
        "the backbone cannot be loaded",
        got=f"{type(error).__name__}: {first_line(error)}",
        allowed="a TF2 SavedModel that can be called (Hub format)"
        + (f", with the signature {called.signature!r}" if is_named else ""),
        action="load it once with tensorflow_hub.load to see more",
        path="backbone.signature" if is_named else "backbone.handle",
    )


def located(handle: str) -> tuple[Path, str]:
    """Where a module or a model of Keras is, and its digest; nothing of it is loaded.

    Raises:
        DataError: it is not there, or is no model.
    """
    own = own_path(handle)
    if own is not None:
        return own, digest_of_own(own)
    folder = locate(handle)
    return folder, digest_of(folder)


def load_located(path: Path, handle: str, digest: str, called: Called) -> Backbone:
    """Loads, frozen, what :func:`located` found and was seen to be trusted.

    Raises:
        DataError, EnvironmentNotAble: see :func:`load_hub` and
            :func:`harness.model.own_model.load_own`.
    """
    if own_path(handle) is None:
        return load_hub(path, handle, digest, called)
    model = load_own(path, called.output)
    model.trainable = False
    return Backbone(handle, model, digest, path)


def load_plugin(name: str, options: Mapping[str, Any], image_size: int | None) -> Backbone:
    """A backbone made by the user's function ``(image_size, **options) -> Keras layer``.

    Args:
        image_size: None where the examples are no pictures.
    """
    layer = registry.get("backbone", name)(image_size, **options)
    if not isinstance(layer, tf_keras.layers.Layer):
        raise DataError(
            "the backbone plug-in gives no Keras layer",
            got=type(layer).__name__,
            allowed="a tf_keras.layers.Layer or tf_keras.Model",
            action="return a layer of tf_keras, not of keras",
            path="backbone.handle",
        )
    layer.trainable = False
    return Backbone(PREFIX + name.removeprefix(PREFIX), layer, None, None)
