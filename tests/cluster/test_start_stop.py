"""Starting and stopping a cluster: quick, complete, and without a trace."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster.configuration import CONFIGURATIONS
from tests.cluster.processes import ClusterError, leftovers
from tests.cluster.slurm_cluster import SlurmCluster

ROOT = Path(__file__).resolve().parents[2]
START_S = 20

# Nothing but SIGKILL ends the job, and its child has left the job's session.
CLINGING = "trap '' TERM HUP INT; setsid bash -c 'trap \"\" TERM HUP; sleep 300' & echo up; wait"


def listening(ports: list[int]) -> list[int]:
    """Which of these TCP ports somebody listens on, by the kernel's table."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    open_ports = {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A"}
    return sorted(open_ports & set(ports))


def held_files(pid: int) -> set[Path]:
    """What a process has open or mapped where programs leave things behind."""
    names = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    names += [line.split(maxsplit=5)[-1] for line in maps]
    places = ("/dev/shm/", "/tmp/", "/var/tmp/", "/run/", "/var/run/", "/var/spool/", "/var/log/")
    return {Path(name) for name in names if name.startswith(places)}


def test_a_cluster_starts_quickly_and_stops_without_a_trace(short_path: Path) -> None:
    cluster = SlurmCluster(short_path)
    before = time.monotonic()
    cluster.start()
    took_s = time.monotonic() - before
    pids = [daemon.process.pid for daemon in cluster.daemons]
    assert cluster.ports is not None
    ports = [cluster.ports.slurmctld, cluster.ports.slurmdbd, *cluster.ports.slurmd]
    assert len(listening(ports)) == len(ports) == 5
    log = short_path / "out"
    job = cluster.submit("--nodes=2", f"--output={log}", "--wrap", CLINGING)
    cluster.wait_for_state(job, "RUNNING")
    cluster.wait_for_text(log, "up")
    held = {path for pid in pids for path in held_files(pid) if short_path not in path.parents}
    job_pids = set(leftovers(short_path)) - set(pids)
    assert len(job_pids) >= 4, "slurmstepd, the batch shell, its child and that one's sleep"
    cluster.stop()
    assert not short_path.exists()
    assert not leftovers(short_path)
    assert not [pid for pid in {*pids, *job_pids} if is_running(pid)]
    assert not listening(ports)
    assert not [path for path in held if path.exists()]
    assert took_s < START_S


def is_running(pid: int) -> bool:
    """Whether the process is there and more than an entry that nobody has collected yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_start_that_fails_shows_the_log_and_leaves_nothing(short_path: Path) -> None:
    impossible = replace(CONFIGURATIONS["no_accounting"], grace_s="nonsense")  # type: ignore[arg-type]
    with pytest.raises(ClusterError) as caught:
        SlurmCluster(short_path, impossible).start()
    assert "last lines of slurmctld" in str(caught.value)
    assert "nonsense" in str(caught.value)
    assert not short_path.exists()
    assert not leftovers(short_path)


def test_a_folder_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="too long"):
        SlurmCluster(tmp_path / ("x" * 100))


def serve(*words: str, record: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.cluster.serve", *words, "--record", str(record)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_cluster_for_learning(short_path: Path) -> None:
    record = short_path.with_name("record.json")
    started = serve("start", "--configuration", "no_accounting", record=record)
    try:
        assert started.returncode == 0, started.stderr
        export = next(x for x in started.stdout.splitlines() if x.lstrip().startswith("export"))
        tried = subprocess.run(
            ["bash", "-c", f"{export}; srun --nodes=2 bash -c 'echo $SLURMD_NODENAME'"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(set(tried.stdout.split())) == 2
        again = serve("start", record=record)
        assert again.returncode == 2
        assert "make cluster-stop" in again.stderr
    finally:
        stopped = serve("stop", record=record)
    folder = Path(export.split("=")[1].split()[0]).parent
    assert stopped.returncode == 0, stopped.stderr
    assert not folder.parent.exists()
    assert not leftovers(folder)
    assert not record.exists()
    assert "no cluster" in serve("stop", record=record).stdout
