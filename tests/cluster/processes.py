"""Processes of the test cluster: its daemons, and what they leave when they are gone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

MARK = "HARNESS_CLUSTER_FOLDER"
"""Set in the daemons' environment; slurmd's step processes inherit it, jobs do not."""


class ClusterError(Exception):
    """The cluster did not do what was asked; the text holds the last lines of the logs."""


class Daemon:
    """One daemon in the foreground, as a child of this process, with a log of its own.

    It ends with this process, however this process ends (``setpriv --pdeathsig``); the kernel
    means the thread that started it, so start daemons from a thread that lives as long.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=log.parent,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises :class:`ClusterError` if the daemon has ended."""
        code = self.process.poll()
        if code is not None:
            raise ClusterError(f"{self.name} ended with code {code}\n{self.last_lines()}")

    def stop(self, wait_s: float) -> None:
        """SIGTERM, and SIGKILL if the daemon is still there after ``wait_s``."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(wait_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def last_lines(self, count: int = 20) -> str:
        """The end of the log, indented, under the daemon's name."""
        lines = self.log.read_text(errors="replace").splitlines()[-count:]
        return "\n    ".join([f"last lines of {self.name}:", *lines])


def free_ports(count: int) -> list[int]:
    """Different TCP ports of loopback that nobody listens on now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on this TCP port of loopback."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def wait_until(
    holds: Callable[[], bool], what: str, timeout_s: float, watched: Iterable[Daemon] = ()
) -> None:
    """Asks ``holds`` until it says yes; an error when it takes too long or a daemon ends."""
    end = time.monotonic() + timeout_s
    watched = list(watched)
    while not holds():
        for daemon in watched:
            daemon.check()
        if time.monotonic() > end:
            logs = [daemon.last_lines() for daemon in watched]
            raise ClusterError("\n".join([f"{what}: not so after {timeout_s:g} s", *logs]))
        time.sleep(0.05)


def leftovers(folder: Path) -> list[int]:
    """Process ids of daemons, job steps and jobs of the cluster in ``folder``.

    They are known by what their environment carries, or are descendants of those.  A shell into
    which somebody pasted ``SLURM_CONF`` is not one of them: it is on no node.
    """
    mark = f"{MARK}={folder}".encode()
    conf = f"SLURM_CONF={folder}/slurm.conf".encode()
    found: set[int] = set()
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue  # another user's, or it has just ended
        pid = int(entry.name)
        children.setdefault(int(parent), []).append(pid)
        on_node = any(variable.startswith(b"SLURMD_NODENAME=") for variable in variables)
        if mark in variables or (on_node and conf in variables):
            found.add(pid)
    below = list(found)
    while below:
        below = [child for pid in below for child in children.get(pid, ()) if child not in found]
        found.update(below)
    return sorted(found - {os.getpid()})


def end_leftovers(folder: Path, timeout_s: float = 10) -> None:
    """Ends them with SIGKILL, each by its own id; raises if one stays."""

    def gone() -> bool:
        left = leftovers(folder)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    wait_until(gone, f"processes of the cluster in {folder} gone", timeout_s)
