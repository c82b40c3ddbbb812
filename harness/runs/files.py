"""Files of a run: written whole or not at all, durable, and with the modes the spec asks for.

The modes are set explicitly, so the umask of a shell does not matter.  ``access: private`` is
0700 for folders and 0600 for files.  ``access: group`` is 2770 and 0660: the setgid bit keeps the
group of the project, and temporaries are made inside the target folder, where they get it too.
A private folder below a setgid one keeps the bit as well: on project space the quota belongs
to the group, and files of another group are often refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from harness.errors import StorageError
from harness.runs.patience import patiently
from harness.runs.storage import storage_error

PRIVATE = "private"
GROUP = "group"
TEMPORARY = ".tmp"  # ending of every temporary; a leading dot hides it
_CHUNK = 1 << 20
_SHARED_FOLDER = stat.S_ISGID | stat.S_IWGRP


def make_dir(path: Path, access: str) -> Path:
    """Makes a folder (and its missing parents) with the mode of ``access``; there already is fine.

    The group is that of the parent where the parent has the setgid bit, and also where it has
    not but we may give that group; otherwise our own.

    Raises:
        StorageError: it cannot be made, or the setgid bit cannot be set.
    """
    path = Path(path)
    try:
        if not path.parent.exists():
            make_dir(path.parent, _access_of_parent(path, access))
        made = not path.exists()
        path.mkdir(exist_ok=True)
        if made and access == GROUP:
            _take_group(path)
        _set_mode(path, access)
    except OSError as error:
        raise storage_error(error, path) from error
    return path


def _access_of_parent(path: Path, access: str) -> str:
    """A parent made on the way: open to the group where the place it is made in is."""
    ancestor = path.parent
    while not ancestor.exists() and ancestor != ancestor.parent:
        ancestor = ancestor.parent
    return GROUP if access == GROUP or is_group_folder(ancestor) else PRIVATE


def _take_group(path: Path) -> None:
    wanted = path.parent.stat().st_gid
    if path.stat().st_gid != wanted:
        # We are no member of the parent's group: ours stays, as for any folder made there.
        with contextlib.suppress(PermissionError):
            os.chown(path, -1, wanted)


def _set_mode(path: Path, access: str) -> None:
    now = stat.S_IMODE(path.stat().st_mode)
    wanted = 0o2770 if access == GROUP else 0o700 | (now & stat.S_ISGID)
    if now == wanted:
        return
    path.chmod(wanted)
    # The kernel drops the bit without a word for those who are not in the folder's group.
    if stat.S_IMODE(path.stat().st_mode) != wanted:
        raise StorageError(
            f"{path}: the setgid bit cannot be set",
            got=f"a folder of group {path.stat().st_gid}, of which you are no member",
            action="choose a folder of a group you are in",
        )


def apply_access(root: Path, access: str) -> None:
    """Gives a folder and all in it the modes of ``access``, and its group with ``group``.

    Raises:
        StorageError: a mode cannot be set.
    """
    try:
        _set_mode(root, access)
        group = root.stat().st_gid
        for folder, folders, files in os.walk(root):
            for name in folders + files:
                path = Path(folder, name)
                if path.is_symlink():
                    continue
                if access == GROUP and path.stat().st_gid != group:
                    os.chown(path, -1, group)
                if path.is_dir():
                    _set_mode(path, access)
                else:
                    path.chmod(0o660 if access == GROUP else 0o600)
    except OSError as error:
        raise storage_error(error, root) from error


def is_group_folder(folder: Path) -> bool:
    """Whether files made in ``folder`` are meant for its group: setgid and group-writable."""
    return folder.stat().st_mode & _SHARED_FOLDER == _SHARED_FOLDER


def file_mode(folder: Path) -> int:
    """Mode of a file made in ``folder``: 0660 in a group's folder, else 0600."""
    return 0o660 if is_group_folder(folder) else 0o600


def write_atomic(path: Path, data: bytes | str, *, sync: bool = True, mode: int = 0) -> None:
    """Writes a file so that readers and crashes see the old one or the new one, whole.

    Args:
        path: its folder must exist; the temporary is made inside it.
        data: text is written as UTF-8.
        sync: wait for the disk.  False only for what may be lost in a power cut (a heartbeat).
        mode: permission bits; 0 means those of :func:`file_mode`.

    Raises:
        StorageError: it cannot be written; what was there before is still there.
    """
    path = Path(path)
    raw = data.encode("utf-8") if isinstance(data, str) else data
    try:
        patiently(lambda: _replace(path, raw, sync, mode))
    except OSError as error:
        raise storage_error(error, path) from error


def _replace(path: Path, raw: bytes, sync: bool, mode: int) -> None:
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}"
    try:
        _write_new(temporary, raw, mode or file_mode(path.parent), sync)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        fsync_dir(path.parent)


def _write_new(path: Path, raw: bytes, mode: int, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, mode)
        _write_all(descriptor, raw)
        if sync:
            os.fsync(descriptor)
    finally:
        # On network file systems a full disk may show only here.
        os.close(descriptor)


def _write_all(descriptor: int, raw: bytes) -> None:
    view = memoryview(raw)
    while view:
        view = view[os.write(descriptor, view) :]


def append_line(path: Path, text: str, *, sync: bool = True) -> None:
    """Adds one line (without its newline) to a file, making the file if need be.

    A line that a crash tore off stays alone: the new one starts on a line of its own.  A line
    that does not fit (full disk) is taken back, so the file still ends in a whole line.

    Raises:
        StorageError: it cannot be written.
    """
    path = Path(path)
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = patiently(lambda: os.open(path, flags, 0o600))
        try:
            facts = os.fstat(descriptor)
            size = facts.st_size
            if size == 0 and facts.st_uid == os.geteuid():  # of a group's file it is its owner's
                os.fchmod(descriptor, file_mode(path.parent))
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            try:
                _write_all(descriptor, (("\n" if torn else "") + text + "\n").encode("utf-8"))
            except OSError:
                os.ftruncate(descriptor, size)
                raise
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(error, path) from error


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects of a ``.jsonl`` file, and how many lines were torn and left out.

    A file that is not there has no lines.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        raw = patiently(Path(path).read_bytes)
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise storage_error(error, path) from error
    objects, torn = [], 0
    for line in raw.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            objects.append(value)
        elif line.strip():
            torn += 1
    return objects, torn


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: it cannot be read or holds no JSON; says which.
    """
    try:
        return json.loads(patiently(Path(path).read_bytes))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error, path) from error
    except ValueError as error:
        raise StorageError(
            f"{path}: is no valid JSON", got=str(error), action="restore the file from a backup"
        ) from error


def to_json(value: Any) -> str:
    """``value`` as indented JSON with a final newline; refuses NaN, which is no JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_json_line(value: Any) -> str:
    """``value`` as JSON on one line, without a newline; refuses NaN, which is no JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def fsync_dir(path: Path) -> None:
    """Makes the names in a folder durable (a rename is not, until its folder is synced)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex; read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def tail_lines(path: Path, count: int, limit: int = 4096, begin: int = 0) -> list[str]:
    """The last ``count`` lines that are not empty of the last ``limit`` bytes; none of no file.

    Args:
        begin: what stands before this byte is not looked at.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(begin, path.stat().st_size - limit))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()][-count:]
