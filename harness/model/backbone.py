"""The pretrained part: found, trusted, pinned by digest, loaded, and checked at both ends."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from harness.errors import DataError
from harness.model.fit import first_line
from harness.model.own_model import digest_of_own, load_own, own_path
from harness.model.text_ops import import_text_ops
from harness.plugins import PREFIX, registry
from harness.spec import Trust
from harness.spec.trust import strangers

_REMOTE = ("https://", "http://", "gs://")
_BLOCK_BYTES = 1 << 20
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
    """The local folder of a Hub handle; downloads nothing that the Hub cache already holds.

    Raises:
        DataError: the folder does not exist, or a remote handle can be neither found in the
            Hub cache nor downloaded.
    """
    if handle.startswith(_REMOTE):
        try:
            return Path(hub.resolve(handle))
        except Exception as error:  # whatever urllib, tarfile or the file system raise
            raise DataError(
                "the backbone cannot be downloaded and is not in the Hub cache",
                got=f"{handle}: {type(error).__name__}: {error}",
                allowed="a handle that this machine reaches, or one already in TFHUB_CACHE_DIR",
                action="run once where there is internet, or use hub:FOLDER",
                path="backbone.handle",
            ) from error
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


def digest_of(folder: Path) -> str:
    """sha256 hex over the sorted relative names, sizes and contents of all files in ``folder``.

    Reads every byte: a backbone is a program, and its digest is what is trusted.
    """
    whole = hashlib.sha256(b"harness backbone 1\n")
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        one = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                one.update(block)
        name = os.fsencode(path.relative_to(folder).as_posix())
        whole.update(len(name).to_bytes(4, "big") + name + one.digest())
    return whole.hexdigest()


def check_trusted(folder: Path, digest: str, trust: Trust) -> None:
    """Holds that nobody else decides what is in the module: a SavedModel is a program.

    Raises:
        DataError: a file or folder of it belongs to somebody else or others may write to it,
            and neither the owner, the group nor the digest is trusted.
    """
    if digest in trust.digests:
        return
    for path in (folder, *sorted(folder.rglob("*"))):
        problem = strangers(path, path.stat(), trust, "a SavedModel")
        if problem is not None:
            more = f", or add {digest} to trust.digests"
            action = (problem.action or "") + more
            raise DataError(replace(problem, action=action, path="backbone.handle"))


def check_digest(found: str, pinned: str | None, handle: str, pinned_by: str) -> None:
    """Holds a digest against the one that was pinned earlier.

    Raises:
        DataError: they differ.
    """
    if pinned is not None and pinned.removeprefix("sha256:") != found:
        raise DataError(
            f"the backbone is not the one that {pinned_by} pins",
            got=f"sha256 {found[:16]}... in {handle}",
            allowed=f"sha256 {pinned.removeprefix('sha256:')[:16]}...",
            action="put the old files back, or fork the run / change backbone.digest on purpose",
            path="backbone.digest",
        )


def load_hub(folder: Path, handle: str, digest: str, called: Called) -> Backbone:
    """Loads a SavedModel through ``hub.KerasLayer``, frozen.

    Raises:
        DataError: no SavedModel, or one that cannot be called.
        EnvironmentNotAble: it needs TensorFlow Text, which is not installed.
    """
    if not any((folder / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
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
