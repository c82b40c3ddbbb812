"""The fence between two starts of a run: only the newest attempt writes.

The lock keeps a second start out while the first one runs.  It cannot everywhere: Lustre mounted
without ``-o flock`` has none, an NFS server may forget it, and a node that nobody reaches holds
nothing any more although its processes run on.  So the number of the attempt is a token (a fencing
token: Kleppmann, "How to do distributed locking", 2016): who is about to write looks first whether
an attempt with a larger number has begun.
"""

from __future__ import annotations

import os
from threading import Lock

from harness.errors import FencedOff
from harness.runs.attempts import Attempt, read_attempts
from harness.runs.paths import RunPaths
from harness.runs.patience import patiently
from harness.runs.storage import storage_error


class Fence:
    """The right of one attempt to write into its run; any thread may ask for it.

    Args:
        paths: the run.
        number: of the attempt.
    """

    def __init__(self, paths: RunPaths, number: int) -> None:
        self._paths, self._number = paths, number
        self._looked_at: tuple[int, int, int] | None = None
        self._newer: Attempt | None = None
        self._asks = Lock()

    def newer(self) -> Attempt | None:
        """The attempt that has taken over; None while this one is the newest.

        Raises:
            StorageError: that cannot be read.
        """
        with self._asks:  # the loop and the thread that saves
            if self._newer is None and self._has_changed():
                newest = max(read_attempts(self._paths), key=lambda one: one.number)
                self._newer = newest if newest.number > self._number else None
            return self._newer

    def check(self) -> None:
        """Called before anything is written.

        Raises:
            FencedOff: another attempt has taken over.
            StorageError: that cannot be read.
        """
        newer = self.newer()
        if newer is not None:
            raise FencedOff(
                f"another start of this run has taken over from attempt {self._number}",
                got=f"attempt {newer.number} of process {newer.pid} on host {newer.host}, "
                f"begun {newer.began}",
                action="nothing: that one goes on from the last checkpoint, and this one leaves "
                "without another word in the run directory",
            )

    def _look(self) -> os.stat_result:
        descriptor = os.open(self._paths.attempts, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def _has_changed(self) -> bool:
        """Opened anew each time: so NFS asks its server, and does not answer out of its cache."""
        try:
            facts = patiently(self._look, late=True)
        except OSError as error:
            raise storage_error(error, self._paths.attempts) from error
        found = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        changed, self._looked_at = found != self._looked_at, found
        return changed
