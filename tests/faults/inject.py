"""Does what clusters, disks and people do to a run.  Knows processes and files, nothing of harness.

Everything here is done from outside, to real processes and real files: a signal when a file shows
that the run has come to a place, a kill while a save is under way, a bit flipped, a disk too small,
a file system without locks, another host.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

PATIENCE_S = 300
"""Until something happens that must: ranks share two busy cores."""
_LOOK_S = 0.002


class Process(Protocol):
    """What is done to a process here."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""


def wait_for(what: Callable[[], object], *alive: Process, said: Callable[[], str] = str) -> None:
    """Waits until something holds, as long as none of some processes has ended."""
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until, f"it did not come\n{said()}"
        assert all(one.poll() is None for one in alive), f"one has ended before\n{said()}"
        time.sleep(_LOOK_S)


def send(number: int, *processes: Process) -> None:
    """A signal to each that still runs."""
    for one in processes:
        if one.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, number)


def kill(*processes: Process) -> None:
    """As a power cut does: no handler, no last word."""
    send(signal.SIGKILL, *processes)


def has_stopped(process: Process) -> bool:
    """Whether SIGSTOP has come to all threads of a process."""
    states = (
        (task / "stat").read_text().rpartition(")")[2].split()[0]
        for task in Path(f"/proc/{process.pid}/task").iterdir()
    )
    return set(states) == {"T"}


def last_step(run: Path) -> int:
    """Of the last whole line of ``metrics.jsonl``; 0 before there is one."""
    try:
        text = (run / "metrics.jsonl").read_text()
    except FileNotFoundError:
        return 0
    whole = text[: text.rfind("\n") + 1].splitlines()
    return int(json.loads(whole[-1])["step"]) if whole else 0


def in_save(run: Path) -> list[Path]:
    """Folders of checkpoints that are half written."""
    try:
        return [path for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]
    except FileNotFoundError:
        return []


def checkpoints(run: Path) -> list[Path]:
    """Folders of whole checkpoints, the newest last."""
    return sorted((run / "checkpoints").glob("step-*"))


def flip_bit(path: Path, bit: int) -> None:
    """Flips one bit of a file, counted from its beginning."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Leaves half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs on ``folder``, such as ``size=8m``; needs root, as the machines of CI give it."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all that is left of a disk."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass
    return filler


_WITHOUT_LOCKS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

/* A mount without locks, as Lustre without -o flock: every one that is asked for fails. */
static int of(const char *name, int file, int command, void *argument) {
    if (command == F_SETLK || command == F_SETLKW || command == F_GETLK) {
        errno = ENOSYS;
        return -1;
    }
    int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, name);
    return real(file, command, argument);
}
int fcntl(int file, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return of("fcntl", file, command, argument);
}
int fcntl64(int file, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return of("fcntl64", file, command, argument);
}
"""


def without_locks(folder: Path) -> dict[str, str]:
    """Variables of a process that sees no locks on any file system; needs a C compiler."""
    return _in_place_of_the_system(folder / "locks.c", _WITHOUT_LOCKS)


def _in_place_of_the_system(source: Path, text: str) -> dict[str, str]:
    library = source.with_suffix(".so")
    source.write_text(text)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


_STALE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A mount whose server was restarted: every seventh file that is opened has a stale handle, once.
   One line of the log for each. */
typedef int opens(const char *, int, ...);
static _Atomic int opened;
static int at(const char *name, const char *path, int flags, int mode) {
    opens *real = (opens *)dlsym(RTLD_NEXT, name);
    const char *where = getenv("STALE_BELOW"), *log = getenv("STALE_LOG");
    if (where && log && strstr(path, where) && opened++ % 7 == 3) {
        int told = real(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (told >= 0 && write(told, "stale\n", 6) == 6) close(told);
        errno = ESTALE;
        return -1;
    }
    return real(path, flags, mode);
}
#define OPEN(name)                              \
    int name(const char *path, int flags, ...) { \
        va_list rest;                           \
        va_start(rest, flags);                  \
        int mode = va_arg(rest, int);           \
        va_end(rest);                           \
        return at(#name, path, flags, mode);    \
    }
OPEN(open)
OPEN(open64)
"""


def with_stale_handles(folder: Path, below: Path, log: Path) -> dict[str, str]:
    """Variables of a process that meets stale handles below a folder, as on NFS.

    Args:
        log: gets a line for each.
    """
    made = _in_place_of_the_system(folder / "stale.c", _STALE)
    return {**made, "STALE_BELOW": str(below), "STALE_LOG": str(log)}


def on_host(name: str, command: Sequence[str]) -> list[str]:
    """A command as it is on a host of that name; needs root."""
    script = 'echo "$0" >/proc/sys/kernel/hostname && exec "$@"'
    return ["unshare", "--uts", "sh", "-c", script, name, *command]
