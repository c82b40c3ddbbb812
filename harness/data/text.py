"""From the bytes of a text file to a text, in graph code."""

from __future__ import annotations

import tensorflow as tf

_MARK = b"\xef\xbb\xbf"
"""The byte order mark that some editors write."""


def decode_text(contents: tf.Tensor) -> tf.Tensor:
    """A text without a byte order mark and the space around it, as a cell of a manifest is.

    Args:
        contents: string scalar, the bytes of a file.

    Returns:
        string scalar, UTF-8, not empty.

    Raises:
        tf.errors.InvalidArgumentError: (when run) the bytes are no UTF-8, or only space.
    """
    marked = tf.strings.substr(contents, 0, len(_MARK)) == _MARK
    start = tf.where(marked, len(_MARK), 0)
    text = tf.strings.substr(contents, start, tf.strings.length(contents))
    # What is decoded is not used: this op alone looks whether the bytes are UTF-8.
    points = tf.strings.unicode_decode(text, "UTF-8", errors="strict")
    text = tf.strings.strip(text)
    checks = [
        tf.debugging.assert_greater(tf.strings.length(text), 0, "the text is empty"),
        tf.debugging.assert_greater(tf.size(points), 0),
    ]
    # Not there when run eagerly, where they have raised by now.
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.ensure_shape(tf.identity(text), [])


def text_fault(contents: bytes) -> str:
    """Why :func:`decode_text` fails on these bytes."""
    try:
        text = contents.removeprefix(_MARK).decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.object[error.start]:#04x} at {error.start})"
    return "empty" if not text.strip() else "could not be read before, can be now"
