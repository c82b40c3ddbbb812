"""Arrays in memory as a source of examples, for a plug-in of kind ``source``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from harness.errors import DataError

_ALLOWED = (
    "pictures as uint8 [N, H, W, 3], [N, H, W, 1] or [N, H, W]; texts as a list of str; "
    "recordings as float32 [N, samples], of the rate data.audio.rate_hz"
)


class ArraySource:
    """Examples and their labels, as what a plug-in of kind ``source`` returns.

    An example is called by its row, so the rows keep their places from run to run.  Grey pictures
    are repeated into three channels.  A recording with a sample that is not finite is corrupt.

    Args:
        examples: uint8 [N, H, W, 3], [N, H, W, 1] or [N, H, W]; N texts; float32 [N, samples].
        labels: whole numbers [N], rows of ``classes``.
        classes: their names, two or more.

    Raises:
        DataError: they are of another type or shape.
    """

    def __init__(self, examples: Any, labels: Any, classes: Sequence[str]) -> None:
        self._held, self._type = _checked(examples)
        numbers = np.asarray(labels)
        if numbers.shape != (len(self._held),) or numbers.dtype.kind not in "iu":
            raise DataError(
                "the labels do not fit the examples",
                got=f"{numbers.dtype} {list(numbers.shape)} for {len(self._held)} examples",
                allowed="a whole number for each example",
            )
        self.names = [f"{row:012d}" for row in range(len(self._held))]
        self.labels: list[int] = numbers.tolist()
        self.classes = tuple(classes)
        self.digest = self._digest()

    def load(self, name: tf.Tensor) -> tf.Tensor:
        """See :mod:`harness.data.sources`."""
        row = tf.strings.to_number(name, tf.int64)
        example = tf.numpy_function(lambda at: self._held[at], [row], self._type)
        if self._type == tf.string:
            return tf.ensure_shape(example, [])
        example = tf.ensure_shape(example, self._held.shape[1:])
        if self._type == tf.float32:
            # As of a recording in a file: then it is corrupt, and data.corrupt says what is done.
            return tf.debugging.check_numerics(example, "samples that are no numbers")
        if self._type == tf.uint8 and example.shape[-1] == 1:
            return tf.repeat(example, 3, axis=-1)
        return example

    def _digest(self) -> str:
        """SHA-256 over all that there is."""
        digest = hashlib.sha256(repr((self._type.name, self._held.shape, self.classes)).encode())
        digest.update(np.asarray(self.labels, "<i8").tobytes())
        for one in self._held:
            raw = one if isinstance(one, bytes) else np.ascontiguousarray(one).tobytes()
            digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.hexdigest()


def _checked(examples: Any) -> tuple[np.ndarray, tf.DType]:
    held = np.asarray(examples)
    if held.dtype == np.uint8 and held.ndim in (3, 4) and held.size:
        held = held if held.ndim == 4 else held[..., None]
        if held.shape[-1] in (1, 3):
            return held, tf.uint8
    elif held.dtype == np.float32 and held.ndim == 2 and held.size:
        return held, tf.float32
    elif held.ndim == 1 and len(held) and all(isinstance(one, str) for one in held):
        texts = np.empty(len(held), object)
        texts[:] = [one.encode() for one in held]
        return texts, tf.string
    raise DataError(
        "examples of this type and shape cannot be used",
        got=f"{held.dtype} {list(held.shape)}",
        allowed=_ALLOWED,
        action="convert them, as with numpy's astype",
    )
