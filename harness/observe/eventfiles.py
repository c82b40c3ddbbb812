"""TensorBoard's event files: records, and going back to an earlier step.

The ``tensorboard`` package has an ``EventFileWriter``; it is not used because it writes from a
thread whose error a ``close`` loses, and because it imports TensorFlow where there is one.  Its
protocol buffers and its checksum are used.

Going back.  TensorBoard's own mark for it (``SessionLog.START`` with a step) drops every later
point of a directory by its step.  In the Keras layout one directory holds points by step
(``batch_loss``) and points by epoch (``epoch_loss``), so a mark would drop the wrong ones; the
fast data server does not read marks at all.  So the points that stay valid are copied into a new
file, which begins with the mark at step 0 (for a TensorBoard that has already read the old
points), and the old files go.  Every reader then sees one curve.

To know which step a point by epoch belongs to, a ``SessionLog.CHECKPOINT`` event, which readers
pass over, is written before it and carries the step.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.observe.appendfile import AppendFile
from harness.runs.files import file_mode, fsync_dir
from harness.runs.storage import storage_error

SUFFIX = ".harness"
"""Ending of our files; those that others (a Keras callback) put beside them are left alone."""

_TEMPORARY = ".back-"  # no "tfevents" in the name: TensorBoard must not read it
_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\..*")
_LENGTH = struct.Struct("<Q")
_CHECK = struct.Struct("<I")
_AROUND = _LENGTH.size + 2 * _CHECK.size  # bytes of a record beside its data


def record(data: bytes) -> bytes:
    """One record of an event file (the TFRecord framing) around ``data``."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    length = _LENGTH.pack(len(data))
    return b"".join(
        (length, _CHECK.pack(masked_crc32c(length)), data, _CHECK.pack(masked_crc32c(data)))
    )


def read_records(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """(data, whole record) of each record; ends at one that a kill has torn.

    Raises:
        OSError: the file cannot be read.
    """
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    with path.open("rb") as stream:
        while len(head := stream.read(_LENGTH.size + _CHECK.size)) == _LENGTH.size + _CHECK.size:
            length = head[: _LENGTH.size]
            if _CHECK.unpack(head[_LENGTH.size :])[0] != masked_crc32c(length):
                return
            size = _LENGTH.unpack(length)[0]
            body = stream.read(size + _CHECK.size)
            if len(body) < size + _CHECK.size:
                return
            yield body[:size], head + body


def event(**fields: Any) -> bytes:
    """A record with one ``Event`` of now."""
    from tensorboard.compat.proto import event_pb2

    return record(event_pb2.Event(wall_time=time.time(), **fields).SerializeToString())


def session_mark(step: int, status: str, text: str = "") -> bytes:
    """A record with a ``SessionLog`` of ``status`` (``START`` or ``CHECKPOINT``) at ``step``."""
    from tensorboard.compat.proto import event_pb2

    log = event_pb2.SessionLog(status=event_pb2.SessionLog.SessionStatus.Value(status), msg=text)
    return event(step=step, session_log=log)


def file_head() -> bytes:
    """The first record of every event file."""
    from tensorboard.compat.proto import event_pb2

    return event(
        file_version="brain.Event:2", source_metadata=event_pb2.SourceMetadata(writer="harness")
    )


def new_file(folder: Path) -> AppendFile:
    """Begins an event file that sorts after all that are in ``folder``.

    The first one begins with a START mark too: TensorBoard takes the first mark it meets for
    that of the start, and drops points only at the next.
    """
    first = not our_files(folder)
    file = AppendFile(folder / _next_name(folder))
    file.write(file_head() + (session_mark(0, "START") if first else b""))
    return file


def our_files(folder: Path) -> list[Path]:
    """Our event files in ``folder``, in the order TensorBoard reads them."""
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.name.endswith(SUFFIX) and _NAME.fullmatch(path.name)
        )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(error, folder) from error


def go_back(folder: Path, step: int) -> Path | None:
    """Replaces our files in ``folder`` by one that holds what stays valid.

    That is points by step up to ``step``, and points by epoch that belong to a step up to it.

    Returns it, or None if there was none.  A kill at any time leaves the old files, or the new
    one, or both; with both the mark at its beginning makes the old ones void.

    Raises:
        StorageError: the new file cannot be written; the old ones are as they were.
    """
    old = our_files(folder)
    if not old:
        return None
    final = folder / _next_name(folder)
    temporary = folder / f"{_TEMPORARY}{secrets.token_hex(4)}.tmp"
    try:
        for left in folder.glob(f"{_TEMPORARY}*"):
            left.unlink(missing_ok=True)  # of a killed process; only one writes at a time
        try:
            with temporary.open("xb") as stream:
                os.fchmod(stream.fileno(), file_mode(folder))
                stream.write(file_head() + session_mark(0, "START"))
                for piece in _valid(old, step):
                    stream.write(piece)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.rename(final)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_dir(folder)
        for path in old:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    return final


def _valid(files: list[Path], step: int) -> Iterator[bytes]:
    """Records of the points that stay valid, those before a START mark left out."""
    from tensorboard.compat.proto import event_pb2

    for path in files[_newest_start(files) :]:
        mark: tuple[int, bytes] | None = None  # of the point by epoch that comes next
        for data, whole in read_records(path):
            found = event_pb2.Event.FromString(data)
            kind = found.WhichOneof("what")
            if kind == "file_version" or _is_start(found):
                continue  # the new file has its own
            if kind == "session_log":
                mark = (found.step, whole)
            elif mark is not None:
                if mark[0] <= step:
                    yield mark[1] + whole
                mark = None
            elif found.step <= step:
                yield whole


def _newest_start(files: list[Path]) -> int:
    """Index of the newest file that begins with a START mark (a kill left older ones), else 0."""
    from tensorboard.compat.proto import event_pb2

    for index in range(len(files) - 1, 0, -1):
        for number, (data, _) in enumerate(read_records(files[index])):
            if _is_start(event_pb2.Event.FromString(data)):
                return index
            if number == 1:
                break
    return 0


def _is_start(found: Any) -> bool:
    from tensorboard.compat.proto import event_pb2

    log = found.session_log  # a default one, of no status, in other events
    return bool(log.status == event_pb2.SessionLog.START)


def _next_name(folder: Path) -> str:
    """A name after all in ``folder``: readers go by name, and hosts' clocks differ."""
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    stamps = [int(name[1]) for name in names if name]
    stamp = max([int(time.time()), *(s + 1 for s in stamps)])
    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())
    return f"events.out.tfevents.{stamp:010d}.{host}.{os.getpid()}{SUFFIX}"
