"""The pretrained part: found, trusted, pinned by digest, loaded, and checked at both ends."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from harness.errors import DataError
from harness.model.own_model import digest_of_own, load_own, own_path
from harness.model.pinned import digest_of
from harness.model.remote import Shelves, missing, remote_of
from harness.model.role import BACKBONE, Role
from harness.model.saved import load_saved
from harness.plugins import PREFIX, registry
from harness.spec.handles import module_path
from harness.spec.models_model import Backbone as BackboneSpec
from harness.tracing import as_written


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
    preprocessor: str | None = None
    """Handle of the module that stands before it in ``layer``; None where there is none."""
    preprocessor_digest: str | None = None

    def facts(self) -> dict[str, str | None]:
        """What ``run.json`` and the card of an export say of it."""
        return {
            "backbone": self.handle,
            "backbone_digest": self.digest,
            "preprocessor": self.preprocessor,
            "preprocessor_digest": self.preprocessor_digest,
        }

    def variables(self) -> list[tf.Variable]:
        """All that it reads; a module of signatures lists none, so they are those of the one that
        is called."""
        called = getattr(self.module, "_callable", None)
        return list(self.layer.weights or getattr(called, "variables", ()))

    def parameters(self) -> int:
        """Number of scalars in all its variables."""
        return sum(int(variable.shape.num_elements() or 0) for variable in self.variables())

    def trainable(self) -> list[tf.Variable]:
        """What of it can be trained: nothing where a signature is called, or a TF1 module."""
        if getattr(self.module, "_signature", None) is not None:
            return []
        self.layer.trainable = True
        found = list(self.layer.trainable_weights)
        self.layer.trainable = False
        return found

    @property
    def module(self) -> tf_keras.layers.Layer:
        """The pretrained module by itself, without what stands before it."""
        return getattr(self.layer, "encoder", self.layer)


class Called(NamedTuple):
    """What of a SavedModel is called: ``backbone.signature`` and ``backbone.output`` of a spec."""

    signature: str | None = None
    output: str | None = None


DIGESTS = ("backbone_digest", "preprocessor_digest")
"""The fields of ``run.json`` that :class:`Pinned` is made of."""


class Pinned(NamedTuple):
    """The digests that a run has recorded; None where it has none."""

    backbone: str | None = None
    preprocessor: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Pinned:
        """Those of ``run.json``."""
        return cls(*(record.get(name) for name in DIGESTS))


def input_of(element: tf.TensorSpec) -> tf.TensorSpec:
    """One example as a backbone takes it, by what the model takes: pictures are float32 here."""
    dtype = tf.float32 if element.dtype == tf.uint8 else element.dtype
    return tf.TensorSpec(element.shape, dtype, element.name)


def locate(handle: str, role: Role = BACKBONE) -> Path:
    """The local folder of a Hub handle; downloads and unpacks nothing, see
    :mod:`harness.model.fetch`.

    Raises:
        DataError: the folder does not exist, or what is fetched or unpacked is not in the cache.
    """
    remote = remote_of(BackboneSpec(handle=handle), (), Shelves.of(os.environ), role)
    if remote is not None:
        if remote.is_here():
            return remote.path
        raise missing(remote)
    folder = module_path(handle)
    if folder is None or not folder.is_dir():
        raise DataError(
            f"the {role.name} folder does not exist",
            got=str(folder or handle),
            allowed="a folder that holds a SavedModel",
            action=f"correct the path, or prepare the {role.name} first",
            path=role.field,
        )
    return folder


def load_hub(folder: Path, handle: str, digest: str, called: Called) -> Backbone:
    """Loads a SavedModel through ``hub.KerasLayer``, frozen.

    Raises:
        DataError: no SavedModel, or one that cannot be called.
        EnvironmentNotAble: it needs TensorFlow Text, which is not installed.
    """
    layer = load_saved(folder, lambda: _loaded(folder, called), BACKBONE, called.signature)
    return Backbone(handle, layer, digest, folder)


class _Module(hub.KerasLayer):
    """A module as a layer; its ``call`` is plain Python, as its own function is a graph already."""

    @as_written
    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return super().call(inputs, training)


def _loaded(folder: Path, called: Called) -> tf_keras.layers.Layer:
    module: Any = str(folder)
    if called.signature is None:
        # Given a path, Hub's layer first imports a Keras that is not the one in use.
        loaded = hub.load(str(folder))
        module = loaded if callable(loaded) else module
    return _Module(
        module,
        trainable=False,
        signature=called.signature,
        output_key=called.output,
        signature_outputs_as_dict=None if called.output or not called.signature else True,
        name="backbone",
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
