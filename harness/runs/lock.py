"""The lock of a run: one process trains it at a time.

A POSIX record lock (``lockf``), which the kernel releases when the process ends in whatever way,
SIGKILL and power cut included, and which NFS carries between hosts.  Lustre mounted without
``-o flock`` has no locks at all; there the lock file's content and the heartbeat decide,
and :attr:`RunLock.enforced` is False.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from harness.errors import StorageError, UsageError
from harness.runs.clock import seconds_since, utc_now, words_for
from harness.runs.files import TEMPORARY, file_mode
from harness.runs.heartbeat import FRESH_S, read_heartbeat
from harness.runs.paths import RunPaths
from harness.runs.storage import storage_error

_BUSY = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

_SETTLE_S = 1.0
"""Where there are no locks: longer than it takes to look, and then to say one's name."""

# A POSIX lock belongs to the process, not to the descriptor: a second lockf of the same process
# succeeds, and closing *any* descriptor of the file drops the lock.  So the process must know
# what it holds.  (device, inode) -> pid; the pid tells a forked child that it holds nothing.
_held: dict[tuple[int, int], int] = {}


@dataclass(frozen=True)
class Holder:
    """The process that trains a run, as far as it is known."""

    host: str | None
    pid: int | None
    since: str | None
    start: str | None = None  # what the kernel says of the process's start; ids are used again

    def __str__(self) -> str:
        if self.host is None:
            return "a process that did not say its name"
        since = f" since {self.since}" if self.since else ""
        return f"process {self.pid} on host {self.host}{since}"


class RunLock:
    """Context manager: holds the lock of a run, or refuses by naming who does.

    Entering raises:
        UsageError: another process, or this one, holds it.
        StorageError: the lock file cannot be written.
    """

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self.enforced = True
        self._descriptor = -1
        self._name = b""
        self._key = (0, 0)

    def __enter__(self) -> RunLock:
        holder = _held_here(self.paths)
        if holder is not None:
            raise _refusal(self.paths, holder)
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise storage_error(error, self.paths.lock) from error
        try:
            self._lock()
            self._name = _own_name()
            self._say(self._name)
            if not self.enforced:
                self._look_again()
            facts = os.fstat(self._descriptor)
        except BaseException as error:
            os.close(self._descriptor)
            if isinstance(error, OSError):
                raise storage_error(error, self.paths.lock) from error
            raise
        self._key = (facts.st_dev, facts.st_ino)
        _held[self._key] = os.getpid()
        _sweep_temporaries(self.paths)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A forked child leaves the block too, but the lock is its parent's.
        if _held.get(self._key) == os.getpid():
            del _held[self._key]
            # On a full disk the name stays; the lock goes with the descriptor all the same.
            with contextlib.suppress(OSError):
                # Without locks somebody else may have taken over.
                if os.pread(self._descriptor, 4096, 0) == self._name:
                    self._say(b"")
        os.close(self._descriptor)

    def _open(self) -> int:
        descriptor = os.open(self.paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(PermissionError):  # the file of a colleague in a group's run
            os.fchmod(descriptor, file_mode(self.paths.root))
        return descriptor

    def _lock(self) -> None:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                named = _parse_holder(os.pread(self._descriptor, 4096, 0))
                raise _refusal(self.paths, named) from None
            if error.errno not in _NO_LOCKS:
                raise
            self.enforced = False
            named = _parse_holder(os.pread(self._descriptor, 4096, 0))
            if named.host is not None and _seems_alive(self.paths, named):
                raise _refusal(self.paths, named) from None

    def _look_again(self) -> None:
        """Of two that begin at once without locks, the one stays that has said its name last."""
        time.sleep(_SETTLE_S)
        said = os.pread(self._descriptor, 4096, 0)
        if said != self._name:
            raise _refusal(self.paths, _parse_holder(said))

    def _say(self, text: bytes) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)
        os.fsync(self._descriptor)


def lock_holder(paths: RunPaths) -> Holder | None:
    """Who holds the lock of a run now; None if nobody does.  Takes no lock itself.

    Raises:
        StorageError: the lock file is there and cannot be read.
    """
    holder = _held_here(paths)
    if holder is not None:
        return holder
    try:
        descriptor = os.open(paths.lock, os.O_RDONLY | os.O_CLOEXEC)
        try:
            named = _parse_holder(os.pread(descriptor, 4096, 0))
            return named if _is_held(paths, descriptor, named) else None
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, paths.lock) from error


def _is_held(paths: RunPaths, descriptor: int, named: Holder) -> bool:
    try:
        return _is_locked(descriptor)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return named.host is not None and _seems_alive(paths, named)


def _is_locked(descriptor: int) -> bool:
    """Asks the kernel with F_GETLK, which unlike a trial lock cannot get in a starter's way."""
    # struct flock: Linux orders type, whence, start, length, pid; macOS and BSD start, length,
    # pid, type, whence.
    layout = "@qqihh" if sys.platform == "darwin" or "bsd" in sys.platform else "@hhqqi4x"
    kind, zero = fcntl.F_WRLCK, 0
    fields = (
        (zero, zero, zero, kind, zero) if layout == "@qqihh" else (kind, zero, zero, zero, zero)
    )
    answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(layout, *fields))
    found = struct.unpack(layout, answer)
    return (found[3] if layout == "@qqihh" else found[0]) != fcntl.F_UNLCK


def _held_here(paths: RunPaths) -> Holder | None:
    """This process, if it holds the lock: found without opening the file, see ``_held``."""
    try:
        facts = paths.lock.stat()
    except OSError:
        return None  # opening the file will say what is wrong
    if _held.get((facts.st_dev, facts.st_ino)) != os.getpid():
        return None
    return Holder(socket.gethostname(), os.getpid(), None)


def _own_name() -> bytes:
    pid = os.getpid()
    name = {"host": socket.gethostname(), "pid": pid, "since": utc_now()}
    return json.dumps({**name, "start": process_start(pid)}).encode()


def _parse_holder(raw: bytes) -> Holder:
    try:
        name = json.loads(raw)
        return Holder(str(name["host"]), int(name["pid"]), str(name["since"]), name.get("start"))
    except (ValueError, KeyError, TypeError):
        return Holder(None, None, None)


def _seems_alive(paths: RunPaths, holder: Holder) -> bool:
    """Without locks: the process is there, or on another host its heartbeat is fresh."""
    if holder.host == socket.gethostname() and holder.pid is not None:
        return process_alive(holder.pid) and process_start(holder.pid) == holder.start
    beat = read_heartbeat(paths)
    last = (beat or {}).get("time") or holder.since
    return last is not None and seconds_since(last) < FRESH_S


def process_alive(pid: int) -> bool:
    """Whether a process of this host has this id (a zombie counts)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is somebody else's
    return True


def process_start(pid: int) -> str | None:
    """Boot and clock tick at which a process of this host started; None if it is not told.

    Source: proc(5), field 22 of ``/proc/PID/stat``, counted after the name in brackets, which
    may itself hold spaces and brackets.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None  # no Linux, or the process is gone
    return f"{boot}:{fields[19]}"


def _last_seen(paths: RunPaths) -> str:
    try:
        beat = read_heartbeat(paths)
    except StorageError as error:
        return f" ({error.problems[0].what})"
    if not beat or not beat.get("time"):
        return ""
    step = "" if beat.get("step") is None else f" at step {beat['step']}"
    return f", last heartbeat {words_for(seconds_since(beat['time']))} ago{step}"


def _refusal(paths: RunPaths, holder: Holder) -> UsageError:
    if holder.host == socket.gethostname():
        stop = f"stop it with `kill {holder.pid}`"
    elif holder.host is not None:
        stop = f"stop it there (`ssh {holder.host} kill {holder.pid}`)"
    else:
        stop = "look with `harness status` where it runs"
    return UsageError(
        f"{paths.root}: another process works on this run",
        got=f"{holder}{_last_seen(paths)}",
        action=f"wait for its end, or {stop}; it saves before it leaves",
    )


def _sweep_temporaries(paths: RunPaths) -> None:
    """Removes what a killed holder left half-written; nobody else writes here now."""
    try:
        for folder in (paths.root, paths.slurm):
            for path in folder.glob(f".*{TEMPORARY}"):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, paths.root) from error
