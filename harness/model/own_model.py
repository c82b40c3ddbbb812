"""A model that the user has saved with Keras 2 as backbone, whole or cut at one of its layers."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import tf_keras

from harness.errors import DataError
from harness.model.fit import first_line

SCHEME = "model:"
_FORMS = "a .h5 or .keras file of Keras 2 (tf_keras), or the folder that its model.save wrote"
_SHOWN = 12


def own_path(handle: str) -> Path | None:
    """PATH of ``model:PATH``; None of another handle."""
    return Path(handle.removeprefix(SCHEME)) if handle.startswith(SCHEME) else None


def digest_of_own(path: Path) -> str:
    """sha256 hex over the content of a file; of a folder as of a SavedModel.

    Raises:
        DataError: see :func:`check_form`.
    """
    check_form(path)
    if path.is_dir():
        from harness.model.pinned import digest_of

        return digest_of(path)
    whole = hashlib.sha256(b"harness model 1\n")
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()


def check_form(path: Path) -> None:
    """Holds, before anything of it is loaded, that a path is a model of Keras 2.

    Raises:
        DataError: it is something else, or not there.
    """
    if not path.exists():
        raise _unfit("the model does not exist", str(path), "correct the path")
    if path.is_dir():
        if not (path / "keras_metadata.pb").is_file():
            action = "use hub:FOLDER for a SavedModel that Keras did not save"
            raise _unfit("the folder is no model of Keras", f"{path} without metadata", action)
        return
    version = _version(path)
    if version is None:
        got = f"{path}: neither weights with their model, nor a zip of one"
        raise _unfit(
            "the file holds no model of Keras", got, "save the whole model, not its weights"
        )
    if not version.startswith("2."):
        raise _unfit(
            "the model was saved by a newer Keras",
            f"Keras {version}",
            "load it there and call model.export('FOLDER'), then set handle: hub:FOLDER, "
            "signature: serving_default and the name of its output",
        )


def load_own(path: Path, layer: str | None) -> tf_keras.Model:
    """The model, from its input to the output of ``layer`` (None: to its end).

    Raises:
        DataError: it cannot be loaded, or has no such layer.
    """
    check_form(path)
    try:
        model = tf_keras.models.load_model(str(path), compile=False)
    except Exception as error:  # whatever h5py, zipfile or a layer raise
        raise _unfit(
            "the model cannot be loaded",
            f"{type(error).__name__}: {first_line(error)}",
            "for layers of your own write a plug-in backbone that loads it",
        ) from error
    if not getattr(model, "inputs", None):
        raise _unfit(
            "the model does not say what it takes",
            type(model).__name__,
            "save it after it has been called, as a functional or sequential model",
        )
    return model if layer is None else _cut(model, layer)


def _cut(model: tf_keras.Model, layer: str) -> tf_keras.Model:
    names = [each.name for each in model.layers]
    if layer not in names:
        last = names[-_SHOWN:]
        raise DataError(
            "the model has no layer of this name",
            got=layer,
            allowed=("..., " if len(names) > len(last) else "") + ", ".join(last),
            action="name the layer whose output are the features, or leave it out",
            path="backbone.output",
        )
    return tf_keras.Model(model.inputs, model.get_layer(layer).output, name=model.name)


def _version(path: Path) -> str | None:
    """Of the Keras that saved a file; None where that is no model."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if "metadata.json" not in archive.namelist():
                return None
            return str(json.loads(archive.read("metadata.json")).get("keras_version", "?"))
    import h5py  # type: ignore[import-untyped]  # Keras depends on it

    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            return None
        version = file.attrs.get("keras_version", "?")
        return version.decode() if isinstance(version, bytes) else str(version)


def _unfit(what: str, got: str, action: str) -> DataError:
    return DataError(what, got=got, allowed=_FORMS, action=action, path="backbone.handle")
