"""Submitting the templates of slurm/ by plain sbatch, and looking at what became of them."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.processes import wait_until
from tests.cluster.slurm_cluster import SlurmCluster
from tests.local.training_helpers import lines

TEMPLATES = Path(__file__).resolve().parents[2] / "slurm"
# On a machine busy with other things a task takes its time to import TensorFlow.
TRAINED_S = 480


def sbatch(cluster: SlurmCluster, work: Path, template: str, *arguments: str) -> str:
    return cluster.submit(str(TEMPLATES / f"{template}.sbatch"), *arguments, cwd=work)


def ends(cluster: SlurmCluster, work: Path, job: str, state: str, name: str) -> str:
    """Waits until the job has ended as it should; what its log says."""
    found = cluster.wait_until_ended(job, timeout_s=TRAINED_S)
    log = work / f"{name}-{job}.out"
    text = log.read_text() if log.exists() else f"there is no {log}"
    assert found == state, text
    return text


def trains(run: Path) -> Callable[[], bool]:
    """Whether steps of this run are in its metrics."""
    return lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size > 0


def wait_until_it_trains(cluster: SlurmCluster, job: str, run: Path) -> None:
    cluster.wait_for_state(job, "RUNNING")
    wait_until(trains(run), f"{run} trains", TRAINED_S)


def outcomes(run: Path) -> list[str]:
    attempts = lines(run / "attempts.jsonl")
    assert [one["attempt"] for one in attempts if one["event"] == "begin"] == [
        one["attempt"] for one in attempts if one["event"] == "end"
    ]
    return [one["outcome"] for one in attempts if one["event"] == "end"]


# Stands where harness would be: says what it was given, and stops as harness does.
STAND_IN = r"""#!/bin/bash
printf 'argument <%s>\n' "$@"
echo "cpus $SLURM_CPUS_PER_TASK of one of $SLURM_STEP_NUM_TASKS, gpus ${CUDA_VISIBLE_DEVICES-none}"
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then exit 0; fi
@LINE@
echo ready
while true; do sleep 0.2; done
"""


def stand_in(folder: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "harness").write_text(STAND_IN.replace("@LINE@", line))
    (folder / "harness").chmod(0o755)
    (folder / "env.sh").write_text(f"export PATH='{folder}':$PATH\n")
    monkeypatch.setenv("HARNESS_ENV", str(folder / "env.sh"))


class OnSocket(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def fetch(path: str, what: str) -> Any:
    connection = OnSocket(path)
    connection.request("GET", f"/data/plugin/scalars/{what}")
    answer = connection.getresponse()
    assert answer.status == 200, answer.reason
    return json.loads(answer.read())


def assert_guarded(path: Path) -> None:
    """Nobody else comes through the folder, and nothing listens on a port."""
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.parent.stat().st_uid == os.getuid()
    if os.getuid() == 0:
        asked = subprocess.run(["stat", path], user=65534, capture_output=True, text=True)
        assert "Permission denied" in asked.stderr


def named_in_processes(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return found
