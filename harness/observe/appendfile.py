"""A file that only grows, by whole pieces."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from harness.runs.files import file_mode
from harness.runs.storage import storage_error


class AppendFile:
    """Appends pieces of bytes, each whole or not at all, straight to the operating system.

    There is no buffer of our own: what :meth:`write` has taken survives a SIGKILL, and a full
    disk or a used-up quota is raised by the call that meets it (some network file systems tell
    it only in :meth:`sync`).  After an error the file ends where it ended before.

    Raises:
        StorageError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor: int | None = os.open(self.path, flags, 0o600)
            if os.fstat(self._descriptor).st_size == 0:
                os.fchmod(self._descriptor, file_mode(self.path.parent))
        except OSError as error:
            raise storage_error(error, self.path) from error

    def write(self, piece: bytes) -> None:
        """Appends ``piece``.  Raises StorageError; the file is then as before."""
        descriptor = self._open()
        try:
            size = os.fstat(descriptor).st_size
            try:
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            except BaseException:
                # The error that is already on its way is the one to tell.
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        except OSError as error:
            raise storage_error(error, self.path) from error

    def sync(self) -> None:
        """Waits until all is on disk.  Raises StorageError if it cannot be."""
        try:
            os.fsync(self._open())
        except OSError as error:
            raise storage_error(error, self.path) from error

    def close(self) -> None:
        """Closes the file; twice is fine.  Raises StorageError where closing tells of one."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            os.close(descriptor)
        except OSError as error:
            raise storage_error(error, self.path) from error

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"{self.path} is closed")
        return self._descriptor
