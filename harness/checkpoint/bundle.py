"""Host arrays to and from a TensorFlow tensor bundle.  TensorFlow is imported on first use."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Kinds of numpy dtypes that a bundle cannot give back as they were: object, bytes, str, times.
_REFUSED_KINDS = "OSUMm"
_MESSAGES = {
    os.strerror(code): code
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
}


def check_tensors(tensors: Mapping[str, np.ndarray]) -> None:
    """Refuses what a bundle cannot hold, before anything is written.

    Raises:
        TypeError: a value that is no numpy array or scalar, or of a dtype TensorFlow lacks.
        ValueError: an empty name.
    """
    if not tensors:
        return
    import numpy as np
    import tensorflow as tf

    for name, value in tensors.items():
        if not name:
            raise ValueError("a tensor's name must not be empty")
        if not isinstance(value, (np.ndarray, np.generic)):
            raise TypeError(f"tensor {name!r} must be a numpy array, was {type(value).__name__}")
        try:
            known = value.dtype.kind not in _REFUSED_KINDS and bool(
                tf.as_dtype(value.dtype.newbyteorder("="))
            )
        except TypeError:
            known = False
        if not known:
            raise TypeError(f"tensor {name!r} has dtype {value.dtype}, which cannot be saved")


def write_bundle(prefix: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes ``prefix.index`` and ``prefix.data-00000-of-00001``; nothing for no tensors.

    ``tf.train.load_checkpoint(prefix)`` reads the result under the same names.

    Raises:
        OSError: the disk is full, the quota is used up, or the files cannot be written.
    """
    if not tensors:
        return
    import tensorflow as tf

    names = sorted(tensors)
    with tf.device("/CPU:0"):
        values = [tf.convert_to_tensor(_native(tensors[name])) for name in names]
        try:
            tf.raw_ops.SaveV2(
                prefix=str(prefix),
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=values,
            )
        except tf.errors.OpError as error:
            raise _os_error(error, prefix) from error


def read_bundle(prefix: Path, names: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays called ``names`` of a bundle; {} for no names.

    Raises:
        ValueError: the bundle lacks one of them or cannot be read.
    """
    if not names:
        return {}
    import numpy as np
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        return {name: np.asarray(reader.get_tensor(name)) for name in names}
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ValueError(f"the tensor bundle cannot be read: {error}") from error


def _native(value: Any) -> np.ndarray:
    import numpy as np

    array = np.asarray(value)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array


def _os_error(error: Exception, prefix: Path) -> OSError:
    """The operating system's error behind a TensorFlow one, found by its text.

    TensorFlow maps ENOSPC, EDQUOT and others to one class and keeps only the message.
    """
    text = str(error)
    for message, code in _MESSAGES.items():
        if message in text:
            return OSError(code, message, str(prefix))
    return OSError(errno.EIO, text, str(prefix))
