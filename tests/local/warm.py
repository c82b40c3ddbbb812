"""``harness`` in processes of their own that do not import TensorFlow anew.

Most of the time of a small run goes into its imports.  A server has imported everything, has used
nothing of it and has one thread; it forks for every command.  What it forks becomes a child of the
process that asked for it, with a working directory, an environment and files of its own: it can be
waited for, sent signals and killed as if it had been started.

Not for a test of what happens while a process starts.  What a launcher, SLURM or the demonstration
starts never comes from here, so each path is also seen with a start of its own.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

HARNESS = (sys.executable, "-m", "harness")
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of <linux/prctl.h>
LIMIT = 150_000  # of a request; it is mostly the environment
READ_AT_START = ("PYTHON", "LD_", "TF_CPP_", "MALLOC_", "OMP_", "KMP_")
"""Beginnings of variables that Python and libraries read when they are loaded."""


def can_be_warm(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a command does the same in a process that the server forks."""
    return tuple(command[:3]) == HARNESS and _early(environment) == _early(os.environ)


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: said for name, said in environment.items() if name.startswith(READ_AT_START)}


class Warm(subprocess.Popen[Any]):
    """``python -m harness`` with all that ``Popen`` offers, but forked by the server."""

    # The one method in which Popen makes the process; the same in Python 3.9 to 3.13.
    def _execute_child(
        self,
        args: Any,
        executable: Any,
        preexec_fn: Any,
        close_fds: Any,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        startupinfo: Any,
        creationflags: Any,
        shell: Any,
        *rest: Any,
    ) -> None:
        pipes = rest[:6]
        request = {
            "words": [os.fspath(word) for word in args[len(HARNESS) :]],
            "environment": dict(os.environ if env is None else env),
            "folder": os.fspath(cwd or Path.cwd()),
        }
        theirs = (pipes[0], pipes[3], pipes[5])
        files = [number if file == -1 else file for number, file in enumerate(theirs)]
        self.pid = _server().fork(request, files)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class Server:
    """The process that forks, and the line to it; it ends with this one."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.local.warm", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                # A library that would have threads from its import on.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                cwd=Path(__file__).resolve().parents[2],
            )

    def fork(self, request: Mapping[str, Any], files: Sequence[int]) -> int:
        """The process id of a new child of this process."""
        adopt = ctypes.CDLL(None).prctl
        adopt(SUBREAPER, 1, 0, 0, 0)
        try:
            socket.send_fds(self._line, [json.dumps(request).encode()], files)
            said = self._line.recv(64)
        finally:
            adopt(SUBREAPER, 0, 0, 0, 0)
        assert said, f"the server ended with {self._process.wait(10)}"
        return int(said)


@cache
def _server() -> Server:
    return Server()


def main(line: socket.socket) -> None:
    """Forks for each request until nobody is left who could ask."""
    import_everything()
    threads = list(Path("/proc/self/task").iterdir())
    assert len(threads) == 1, f"only a process with one thread can be forked, it has {threads}"
    gc.freeze()
    while True:
        message, files, _, _ = socket.recv_fds(line, LIMIT, 3)
        if not message:
            return
        # The one between ends at once, and its child goes to the process that asked.
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child == 0:
                line.close()
                become(json.loads(message), files)
            os.write(writing, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)
        line.send(os.read(reading, 64))
        for file in (reading, writing, *files):
            os.close(file)


def import_everything() -> None:
    """TensorFlow and each module of harness, as a run has them when it begins."""
    import tensorflow_hub  # noqa: F401
    import tf_keras  # noqa: F401

    import harness

    for module in pkgutil.walk_packages(harness.__path__, "harness."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def become(request: Mapping[str, Any], files: Sequence[int]) -> NoReturn:
    """Is ``python -m harness WORDS`` from here on."""
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.closerange(3, 256)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = ["harness", *request["words"]]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        runpy.run_module("harness", run_name="__main__", alter_sys=True)
    except BaseException:
        traceback.print_exc()
    os._exit(1)  # the command itself ends the process, so nobody comes here without an error


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
