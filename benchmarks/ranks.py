"""Starts groups of pinned processes and times what they do together."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent


class Group:
    """Processes of :mod:`benchmarks.rank`, which wait for what they are told to do.

    Args:
        work, strategy: see there.
        cores: those of each process; a process each.
        alone: the processes know nothing of one another.
    """

    def __init__(
        self, work: str, strategy: str, cores: Sequence[str], *, alone: bool = False
    ) -> None:
        job, size = uuid.uuid4().hex, len(cores)
        self._processes = []
        for rank, own in enumerate(cores):
            place = {} if alone or size == 1 else _place(job, rank, size)
            self._processes.append(
                subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-m", "benchmarks.rank", work, strategy, own],
                    cwd=ROOT,
                    env={**os.environ, **place},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )

    def __enter__(self) -> Group:
        for process in self._processes:
            said = self._line(process)
            if said != "ready":
                raise RuntimeError(f"a process of the bench has ended early, last: {said!r}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def seconds(self, count: int) -> float:
        """Seconds that ``count`` times the work take, on average over the processes.

        Groups that wait meanwhile cost nothing: their threads sleep.
        """
        took = self._work(count)
        return sum(took) / len(took)

    def _work(self, count: int) -> list[float]:
        for process in self._processes:
            assert process.stdin is not None, "it was opened as a pipe"
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
        return [float(self._line(process)) for process in self._processes]

    def _line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None, "it was opened as a pipe"
        return process.stdout.readline().strip()


def _place(job: str, rank: int, size: int) -> dict[str, str]:
    """The variables of a rank that submitit starts on this machine."""
    return {
        "SUBMITIT_LOCAL_JOB_ID": job,
        "SUBMITIT_LOCAL_NTASKS": str(size),
        "SUBMITIT_LOCAL_GLOBALID": str(rank),
        "SUBMITIT_LOCAL_LOCALID": str(rank),
    }
