"""Errors that TensorFlow, Python and the operating system raise, in the user's words."""

from __future__ import annotations

import errno
import os
import re

from harness.errors import DataError, HarnessError, StoppedEarly, StorageError, TrainingError
from harness.runs.storage import storage_error

# What Python code inside of a data set has raised, in the message of TensorFlow's own error.
_RAISED_WITHIN = re.compile(
    r"\b(DataError|StorageError): (.*?)\nTraceback \(most recent call last\)", re.DOTALL
)
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def translated(error: BaseException, action: str) -> HarnessError:
    """The error for users that says what ``error`` says.

    Args:
        action: what to do about an error that nobody expected.
    """
    if isinstance(error, HarnessError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return StoppedEarly(
            "stopped before the next save", action="run the same command again to continue"
        )
    within = _RAISED_WITHIN.search(str(error)) if _is_tensorflows(error) else None
    if within is not None:
        return (DataError if within[1] == "DataError" else StorageError)(within[2])
    storage = _storage(error)
    if storage is not None:
        return storage
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return TrainingError(
            "memory ran out",
            got=_first_line(error),
            action="lower training.batch_size or data.image_size, or ask for more memory",
        )
    return TrainingError(
        "it broke off with an error that harness does not know",
        got=f"{type(error).__name__}: {_first_line(error)}",
        action=f"{action}; --debug shows where",
    )


def _storage(error: BaseException) -> StorageError | None:
    """TensorFlow maps a full disk and a full memory to one class; the message tells them apart."""
    if isinstance(error, OSError) and error.errno in _STORAGE:
        return storage_error(error, error.filename or "a file")
    text = str(error)
    for code in _STORAGE:
        if _is_tensorflows(error) and os.strerror(code) in text:
            return storage_error(OSError(code, os.strerror(code)), _first_line(error))
    return None


def _is_tensorflows(error: BaseException) -> bool:
    return type(error).__module__.startswith("tensorflow")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__
