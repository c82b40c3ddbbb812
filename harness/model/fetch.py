"""Fetches a backbone into the cache, once for all who share it.  Free of TensorFlow.

It gets its name only when it is whole and on disk, so whoever finds the name may load it.  One
process at a time fetches a backbone; where the file system has no locks two may, and the second
finds that the first was there before.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from harness.errors import DataError, StorageError
from harness.model.archives import no_module, read_name
from harness.model.download import NotReached, download
from harness.model.pinned import is_saved_model
from harness.model.remote import Remote, checksum_kind, missing
from harness.model.unpack import NotAModule, unpack
from harness.runs.files import (
    GROUP,
    PRIVATE,
    TEMPORARY,
    file_mode,
    fsync_dir,
    is_group_folder,
    make_dir,
    write_atomic,
)
from harness.runs.own import locked
from harness.runs.storage import readable_bytes

DESCRIPTOR = ".descriptor.txt"
"""Ending of the file beside a module that says which it is; TensorFlow Hub writes it too."""
_AGAIN_S, _SAID_S = 0.5, 15.0
_LEFT_S = 24 * 3600.0
"""As long as something half done may belong to somebody who still works on it."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EACCES)
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PIECE = 1 << 20


@dataclass(frozen=True)
class Fetched:
    """A backbone in the cache; ``fetched`` says whether it was brought there by this call, from its
    address or out of its archive."""

    remote: Remote
    bytes: int
    fetched: bool
    seconds: float


def fetch(remote: Remote, say: Callable[[str], None], given: Path | None = None) -> Fetched:
    """Brings a backbone into the cache, if it is not there yet.

    Args:
        say: hears what takes its time.
        given: what its address gives, fetched by other means; None asks the address, or unpacks
            the archive that its handle names.

    Raises:
        DataError: it cannot be had, or is not what it should be.
        StorageError: the cache cannot be written.
    """
    begun = time.monotonic()
    try:
        if remote.is_here():
            return Fetched(remote, remote.bytes, False, 0.0)
        folder = remote.path.parent
        if not folder.is_dir():  # one that is there is as open to others as its owner made it
            make_dir(folder, GROUP if _is_shared(folder) else PRIVATE)
        with _alone(folder / f".{remote.path.name}.lock", remote, say):
            if remote.is_here():
                return Fetched(remote, remote.bytes, False, time.monotonic() - begun)
            _sweep(remote)
            _bring(remote, say, given)
    except OSError as error:
        raise StorageError(
            "the cache of backbones cannot be written",
            got=f"{error.filename or remote.path}: {error.strerror or error}",
            action="free some space there, or set HARNESS_CACHE to another folder",
        ) from error
    return Fetched(remote, remote.bytes, True, time.monotonic() - begun)


def program_modes(folder: Path) -> tuple[int, int]:
    """Modes of a file and a folder of a backbone in ``folder``.

    The group may read it where it shares the cache, and nobody but its owner may write it: who may
    change a program decides what others run.
    """
    return (0o640, 0o2750) if is_group_folder(folder) else (0o600, 0o700)


def _is_shared(folder: Path) -> bool:
    """Whether the nearest folder that is there is a group's."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return is_group_folder(folder)


def _bring(remote: Remote, say: Callable[[str], None], given: Path | None) -> None:
    path = remote.path
    mark = f".{path.name}.{secrets.token_hex(4)}"
    part, made = path.with_name(f"{mark}.part{TEMPORARY}"), path.with_name(f"{mark}{TEMPORARY}")
    try:
        given = given or remote.archive
        if given is None:
            _download(remote, part, say)
        elif given == remote.archive:
            say(f"unpacking {given}")
        source = given or part
        if remote.is_module:
            _make_module(remote, source, made)
        else:
            _make_weights(remote, source, made)
        _name(made, path)
        if remote.is_module:
            write_atomic(path.with_name(path.name + DESCRIPTOR), _described(remote.handle))
    finally:
        part.unlink(missing_ok=True)
        shutil.rmtree(made, ignore_errors=True) if made.is_dir() else made.unlink(missing_ok=True)


def _name(made: Path, path: Path) -> None:
    """Gives its name to what is whole; what was there meanwhile stays."""
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
    try:
        made.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    fsync_dir(path.parent)


def _download(remote: Remote, part: Path, say: Callable[[str], None]) -> None:
    next_s = 0.0

    def told(done: int, total: int | None) -> None:
        nonlocal next_s
        if time.monotonic() < next_s:
            return
        next_s = time.monotonic() + _SAID_S
        much = readable_bytes(done) if done else ""
        of = readable_bytes(total) if total is not None else ""
        size = f" ({' of '.join(filter(None, (much, of)))})" if much or of else ""
        say(f"fetching {remote.handle}{size}")

    with _new_file(part) as file:
        try:
            download(remote.address, file, told)
        except NotReached as error:
            raise missing(remote, f"{remote.address} cannot be had: {error}") from error


def _new_file(path: Path) -> BinaryIO:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "w+b")


def _make_module(remote: Remote, source: Path, made: Path) -> None:
    made.mkdir(mode=0o700)
    of_file, of_folder = program_modes(made.parent)
    try:
        unpack(source, made, file_mode=of_file, folder_mode=of_folder)
    except NotAModule as error:
        raise _unfit(remote, str(error)) from error
    if not is_saved_model(made):
        names = ", ".join(sorted(one.name for one in made.iterdir())[:5])
        raise _unfit(remote, f"an archive without saved_model.pb, of {names or 'nothing'}")
    if remote.archive is not None and read_name(source) != remote.path.name:
        raise _unfit(remote, "it has changed while it was unpacked")


def _make_weights(remote: Remote, source: Path, made: Path) -> None:
    with source.open("rb") as file, _new_file(made) as copy:
        if file.read(len(_HDF5)) != _HDF5:
            raise _unfit(remote, "no .h5 file")
        file.seek(0)
        whole = checksum_kind(remote.checksum)
        while piece := file.read(_PIECE):
            whole.update(piece)
            copy.write(piece)
        if remote.checksum is not None and whole.hexdigest() != remote.checksum:
            raise _unfit(remote, f"{whole.name} {whole.hexdigest()}, not {remote.checksum}")
        os.fchmod(copy.fileno(), program_modes(made.parent)[0])
        copy.flush()
        os.fsync(copy.fileno())


def _unfit(remote: Remote, got: str) -> DataError:
    if remote.archive is not None:
        return no_module(remote.archive, got, remote.role)
    kind = "a .tar.gz of a SavedModel" if remote.is_module else "the weights that Keras published"
    return DataError(
        f"what was fetched is not the {remote.role.name}; nothing is kept of it",
        got=f"{remote.handle}: {got}",
        allowed=f"{kind}, from {remote.address}",
        action="look at the address in a browser; of a proxy or a login page, what it sends is got",
        path=remote.role.field,
    )


def _described(handle: str) -> str:
    return (
        f"Module: {handle}\nDownload Time: {datetime.now()}\n"
        f"Downloader Hostname: {socket.gethostname()} (PID:{os.getpid()})"
    )


def _sweep(remote: Remote) -> None:
    """Removes what processes that were killed have left of this backbone."""
    for path in remote.path.parent.glob(f".{remote.path.name}.*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _alone(lock: Path, remote: Remote, say: Callable[[str], None]) -> Iterator[None]:
    """Waits until nobody else fetches it."""
    with ExitStack() as held:
        told = False
        while not _taken(lock, held):
            if not told:
                say(f"another process fetches {remote.handle}; waiting for it")
                told = True
            time.sleep(_AGAIN_S)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()


def _taken(lock: Path, held: ExitStack) -> bool:
    """Whether the lock is ours, or there are none on this file system."""
    with ExitStack() as attempt:
        try:
            mine = attempt.enter_context(locked(lock, fcntl.LOCK_EX))
        except OSError as error:
            if (
                error.errno in _NO_LOCKS
                and lock.parent.is_dir()
                and os.access(lock.parent, os.W_OK)
            ):
                return True
            raise
        if mine:
            lock.chmod(file_mode(lock.parent))  # others of the group have to open it
            held.push(attempt.pop_all())
        return mine
