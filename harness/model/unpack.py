"""The archive of a module, unpacked with no trust in it.  Free of TensorFlow."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from harness.runs.files import fsync_dir
from harness.runs.storage import readable_bytes

_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"
_END = 2 * tarfile.BLOCKSIZE
_MOST_FILES = 100_000
"""Of a module; more would spend somebody's quota of files on what is none."""
_BLOCK = 4096
"""Of a disk, as most have it: a file takes whole ones."""


class NotAModule(Exception):
    """The file holds no module; the text says why."""


def unpack(archive: Path, folder: Path, *, file_mode: int, folder_mode: int) -> None:
    """Unpacks a ``.tar`` or ``.tar.gz`` into an empty folder, durably.

    Takes plain files and folders alone, and names that stay inside; owners and modes are ours.
    All of it is looked through before anything is written.

    Raises:
        NotAModule: it is no archive, a broken one, or holds something else.
        OSError: the folder cannot be written, or all of it is more than its disk has free.
    """
    try:
        need = _looked_through(archive, folder)
        with ExitStack() as stack:
            for tar, member in _members(archive, stack):
                need -= _room_of(member)
                if need < 0:
                    raise NotAModule("it has changed while it was unpacked")
                _take(tar, member, folder, file_mode)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise NotAModule(f"it is no whole .tar.gz ({error})") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise NotAModule(f"it holds {error.filename} twice") from error
    for inner, _, _ in os.walk(folder):
        os.chmod(inner, folder_mode)  # noqa: PTH101
        fsync_dir(Path(inner))


def _looked_through(archive: Path, folder: Path) -> int:
    """Bytes that all of an archive takes on a disk; nothing is written.

    What is packed small may be larger than the disk: it is left as soon as that shows.
    """
    free, need = shutil.disk_usage(folder).free, 0
    with ExitStack() as stack:
        for _, member in _members(archive, stack):
            need += _room_of(member)
            if need > free:
                many = f"{readable_bytes(need)} or more unpacked, {readable_bytes(free)} free"
                raise OSError(
                    errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({many})", os.fspath(folder)
                )
    return need


def _members(archive: Path, stack: ExitStack) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """What an archive holds, each of it seen to be something that a module has."""
    tar, packed = _opened(archive, stack)
    for number, member in enumerate(tar):
        if number >= _MOST_FILES:
            raise NotAModule(f"it holds more than {_MOST_FILES:,} files")
        _check(member)
        yield tar, member
    # The checksum stands behind the last member, where tarfile does not look any more.
    while packed is not None and packed.read(_PIECE):
        pass


def _opened(archive: Path, stack: ExitStack) -> tuple[tarfile.TarFile, gzip.GzipFile | None]:
    """The archive, and the stream that it is packed in, if that is gzip."""
    with archive.open("rb") as file:
        is_packed = file.read(len(_GZIP)) == _GZIP
    if not is_packed:
        _hold_to_its_end(archive)
        return stack.enter_context(tarfile.open(archive, mode="r:")), None
    packed = stack.enter_context(gzip.GzipFile(archive, "rb"))
    return stack.enter_context(tarfile.open(fileobj=packed, mode="r:")), packed


def _hold_to_its_end(archive: Path) -> None:
    """An archive ends with two blocks of zeros, and nothing else says that one was cut."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END))
        if size < _END or any(file.read()):
            raise NotAModule("it is no whole .tar.gz (nor does it end as a .tar)")


def _check(member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not member.name.isprintable():
        raise NotAModule(f"it holds {member.name!r}, which is no name inside a module")
    if member.issparse():
        raise NotAModule(f"it holds {member.name!r}, which is a file with holes")
    if not member.isdir() and not member.isfile():
        raise NotAModule(f"it holds {member.name!r}, which is neither a file nor a folder")


def _room_of(member: tarfile.TarInfo) -> int:
    """Bytes of a disk that a file or a folder takes."""
    return -(-max(member.size, 1) // _BLOCK) * _BLOCK


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, mode: int) -> None:
    place = folder / PurePosixPath(member.name)
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member)
    assert content is not None, "a file has content"
    place.parent.mkdir(parents=True, exist_ok=True)
    with content, place.open("xb") as file:
        shutil.copyfileobj(content, file, _PIECE)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
