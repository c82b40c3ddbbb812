"""Loading a SavedModel, with errors that say which module of a spec it is of."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.errors import DataError
from harness.model.fit import first_line
from harness.model.pinned import is_saved_model
from harness.model.role import BACKBONE, Role
from harness.model.text_ops import import_text_ops

_T = TypeVar("_T")
_UNKNOWN_OP = re.compile(r"Op type not registered '(\w+)'")


def load_saved(
    folder: Path, load: Callable[[], _T], role: Role = BACKBONE, signature: str | None = None
) -> _T:
    """What ``load`` makes of a SavedModel, once the operations that this is made of are known.

    Args:
        role: whose errors it raises.
        signature: that it has to have.

    Raises:
        DataError: ``folder`` holds no SavedModel, or ``load`` fails.
        EnvironmentNotAble: it needs TensorFlow Text, which is not installed.
    """
    if not is_saved_model(folder):
        raise DataError(
            f"the {role.name} folder is no SavedModel",
            got=f"{folder} without saved_model.pb",
            allowed="a TF2 SavedModel in Hub format",
            action=f"point {role.field} at the folder that holds saved_model.pb",
            path=role.field,
        )
    try:
        return load()
    except Exception as error:  # the loader raises what the file provokes
        unknown = _UNKNOWN_OP.search(str(error))
        if unknown is None:
            raise _unloadable(error, role, signature) from error
        import_text_ops(unknown.group(1), role.name, role.field)
        try:
            return load()
        except Exception as again:
            raise _unloadable(again, role, signature) from again


def _unloadable(error: Exception, role: Role, signature: str | None) -> DataError:
    is_named = signature is not None
    action = "load it once with tensorflow_hub.load to see more"
    if role == BACKBONE and "Signature name has to be specified" in str(error):
        action = "set backbone.signature and backbone.output: `saved_model_cli show` lists them"
    return DataError(
        f"the {role.name} cannot be loaded",
        got=f"{type(error).__name__}: {first_line(error)}",
        allowed="a TF2 SavedModel that can be called (Hub format)"
        + (f", with the signature {signature!r}" if is_named else ""),
        action=action,
        path="backbone.signature" if is_named else role.field,
    )
