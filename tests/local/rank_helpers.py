"""Several ranks of one run on this machine: started by hand or by a launcher, and watched."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.distribute.sockets import hold_port
from tests.local.warm import HARNESS, Warm, can_be_warm

ALL_S = 600
"""Patience with a group of ranks: four of them share two busy cores."""

_starts = itertools.count()


@dataclass(frozen=True)
class Ended:
    """How one process ended."""

    code: int
    out: str
    err: str


class Group:
    """Processes that were started together; what they print goes to files, by their number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts one more."""
        stem = self._folder / f"process-{len(self.processes)}"
        with Path(f"{stem}.out").open("wb") as out, Path(f"{stem}.err").open("wb") as err:
            way = Warm if can_be_warm(command, environment) else subprocess.Popen
            self.processes.append(way(command, stdout=out, stderr=err, env=dict(environment)))

    def ended(self, timeout_s: float = ALL_S) -> list[Ended]:
        """Waits for all of them."""
        until = time.monotonic() + timeout_s
        for process in self.processes:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"process {process.args} did not end\n{self.said()}") from None
        return [
            Ended(process.returncode, self._read(number, "out"), self._read(number, "err"))
            for number, process in enumerate(self.processes)
        ]

    def said(self) -> str:
        """All that they printed so far, for the message of a failure."""
        numbers = range(len(self.processes))
        return "\n".join(f"[{n}] {self._read(n, 'out')}{self._read(n, 'err')}" for n in numbers)

    def _read(self, number: int, end: str) -> str:
        return (self._folder / f"process-{number}.{end}").read_text(errors="replace")


@contextmanager
def group(folder: Path) -> Iterator[Group]:
    """A :class:`Group` of which nobody is left behind."""
    name = folder / f"start-{next(_starts)}"
    name.mkdir(parents=True)
    made = Group(name)
    try:
        yield made
    finally:
        for process in made.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def clean() -> dict[str, str]:
    """This process' environment with no launcher and no settings in it but the tests' own cache."""
    taken = ("SLURM_", "SUBMITIT_", "HOROVOD_", "OMPI_", "PMI", "HARNESS_", "TF_CONFIG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(taken)}
    return {**kept, "HARNESS_CACHE": os.environ["HARNESS_CACHE"]}


def place(job: str, rank: int, size: int) -> dict[str, str]:
    """What submitit's local executor tells a rank."""
    return {
        "SUBMITIT_LOCAL_JOB_ID": job,
        "SUBMITIT_LOCAL_NTASKS": str(size),
        "SUBMITIT_LOCAL_GLOBALID": str(rank),
        "SUBMITIT_LOCAL_LOCALID": str(rank),
    }


def start_ranks(
    among: Group,
    size: int,
    command: Sequence[str],
    each: Callable[[int], Mapping[str, str]] = lambda rank: {},
    come: Sequence[int] | None = None,
) -> None:
    """Starts ``size`` ranks of ``command`` by hand, or those of ``come`` alone."""
    job = f"{os.getpid()}-{next(_starts)}"
    for rank in range(size) if come is None else come:
        among.start(command, {**clean(), **place(job, rank, size), **each(rank)})


def run_ranks(
    folder: Path,
    size: int,
    *arguments: str,
    each: Callable[[int], Mapping[str, str]] = lambda rank: {},
    come: Sequence[int] | None = None,
) -> list[Ended]:
    """``harness ARGUMENTS`` on ``size`` ranks, to their end."""
    with group(folder) as started:
        start_ranks(started, size, [*HARNESS, *arguments], each, come)
        return started.ended()


def run_launched(folder: Path, launcher: Sequence[str], *arguments: str) -> Ended:
    """``harness ARGUMENTS`` by a launcher, to its end."""
    with group(folder) as started:
        started.start([*launcher, *HARNESS, *arguments], clean())
        return started.ended()[0]


def run_workers(folder: Path, size: int, *arguments: str) -> list[Ended]:
    """``harness ARGUMENTS`` on ranks that know one another from ``TF_CONFIG``."""
    held = [hold_port() for _ in range(size)]
    workers = [f"127.0.0.1:{port}" for _, port in held]
    with group(folder) as started:
        for index in range(size):
            config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            started.start([*HARNESS, *arguments], {**clean(), "TF_CONFIG": json.dumps(config)})
        ended = started.ended()
    for holder, _ in held:
        holder.close()
    return ended


def assert_all(ended: Sequence[Ended], code: int = 0) -> None:
    """All left with ``code``, and nobody with a traceback."""
    told = "\n".join(f"[{n}] {one.code}\n{one.out}{one.err}" for n, one in enumerate(ended))
    assert [one.code for one in ended] == [code] * len(ended), told
    assert "Traceback" not in told, told


def wait_until(holds: Callable[[], object], among: Group, timeout_s: float = ALL_S) -> None:
    """Waits for a condition while all processes of a group live."""
    until = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until, f"it did not come\n{among.said()}"
        assert all(process.poll() is None for process in among.processes), among.said()
        time.sleep(0.05)


def send(among: Group, number: int, what: int = signal.SIGKILL) -> None:
    """Sends a signal to one process of a group."""
    among.processes[number].send_signal(what)
