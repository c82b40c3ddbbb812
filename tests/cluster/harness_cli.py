"""The ``harness`` command in the environment of a test cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.runs.attempts import read_attempts
from harness.runs.paths import RunPaths
from tests.cluster.processes import wait_until
from tests.cluster.slurm_cluster import SlurmCluster

HARNESS = str(Path(sys.executable).with_name("harness"))


class Harness:
    """Calls ``harness`` from ``folder``, as a user of ``cluster``; runs go to ``folder/runs``."""

    def __init__(self, cluster: SlurmCluster, folder: Path, **variables: str) -> None:
        self.cluster = cluster
        self.folder = folder
        self.variables = {
            "HARNESS_RUNS_ROOT": str(folder / "runs"),
            "HARNESS_CACHE": str(folder / "cache"),
            **variables,
        }

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """A started process."""
        return subprocess.Popen(
            [HARNESS, *words],
            env=self.cluster.environment(**{**self.variables, **variables}),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str, code: int = 0, **variables: str) -> str:
        """What it printed to standard output, if it ended with ``code``; see :meth:`said`."""
        return self.said(*words, code=code, **variables)[0]

    def said(self, *words: str, code: int = 0, **variables: str) -> tuple[str, str]:
        """Standard output and standard error of a call that must end with ``code``."""
        process = self.start(*words, **variables)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, f"{words} -> {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return out, err

    def json(self, *words: str, code: int = 0) -> Any:
        """What ``--json`` prints."""
        return json.loads(self.call(*words, "--json", code=code))

    def submit(self, *words: str) -> tuple[RunPaths, str]:
        """Submits; the run and the job's id."""
        done = self.json("submit", *words)
        return RunPaths(Path(done["path"])), done["job_id"]

    def status(self, paths: RunPaths) -> dict[str, Any]:
        """``harness status --json``."""
        found: dict[str, Any] = self.json("status", str(paths.root))
        return found


def heartbeat(paths: RunPaths) -> dict[str, Any]:
    """The run's heartbeat, empty before the first one."""
    return json.loads(paths.heartbeat.read_text()) if paths.heartbeat.exists() else {}


def wait_for_step(paths: RunPaths, step: int, timeout_s: float = 240) -> None:
    """Waits until the training has done this many steps."""
    wait_for(paths, lambda: heartbeat(paths).get("step", -1) >= step, f"step {step}", timeout_s)


def wait_for(paths: RunPaths, holds: Callable[[], bool], what: str, timeout_s: float = 240) -> None:
    """Waits; on a timeout the error holds what the job printed."""
    try:
        wait_until(holds, f"{what} of {paths.root}", timeout_s)
    except Exception as error:
        logs = "\n".join(path.read_text() for path in paths.slurm.glob("*_log.*"))
        raise AssertionError(f"{error}\n{logs[-6000:]}") from error


def wait_until_finished(paths: RunPaths, timeout_s: float = 300) -> None:
    """Waits for the end of the whole run and of its last attempt."""

    def ended() -> bool:
        return paths.finished.exists() and read_attempts(paths)[-1].outcome == "finished"

    wait_for(paths, ended, "the end", timeout_s)
