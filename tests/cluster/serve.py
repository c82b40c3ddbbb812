"""A test cluster in the background, to try things on:  python -m tests.cluster.serve start|stop

``make cluster`` and ``make cluster-stop`` call this.  A keeper process holds the daemons as its
children; the record says who it is and where the cluster's folder is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.cluster.configuration import CONFIGURATIONS
from tests.cluster.packages import INSTALL, missing_packages
from tests.cluster.processes import ClusterError, end_leftovers
from tests.cluster.slurm_cluster import SlurmCluster

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / ".cluster.json"  # not in build/, which make clean removes
WAIT_S = 60

TEXT = """\
A SLURM of three nodes is running. Paste this into a shell that shall use it:

    export SLURM_CONF={folder}/slurm.conf PATH=$PATH:/usr/sbin

and try, for example:

    sinfo
    srun --nodes=2 bash -c 'echo $SLURMD_NODENAME'
    sbatch --partition=low --gres=gpu:2 --wrap 'echo GPUs $CUDA_VISIBLE_DEVICES; sleep 60'
    sbatch --partition=high --nodes=3 --exclusive --wrap 'sleep 5'    # preempts the one above
    squeue{sacct}

Logs of the daemons: {folder}/log
End it, with all its jobs: make cluster-stop
"""


def main() -> int:
    """Returns 0, 2 when a cluster is there already, 3 when one cannot be started."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["start", "stop", "keep"])
    parser.add_argument("--configuration", choices=CONFIGURATIONS, default="default")
    parser.add_argument("--record", type=Path, default=RECORD, help="where to write what runs")
    parser.add_argument("--folder", type=Path, help="of the cluster; only for keep")
    arguments = parser.parse_args()
    if arguments.verb == "stop":
        return stop(arguments.record)
    if arguments.verb == "keep":
        return keep(arguments.folder, arguments.configuration)
    return start(arguments.record, arguments.configuration)


def start(record: Path, configuration: str) -> int:
    """Starts a keeper in the background and waits until its cluster takes jobs."""
    if record.exists():
        print(f"a cluster is running, see {record}; next: make cluster-stop", file=sys.stderr)
        return 2
    if missing_packages():
        print(f"missing packages; next: {INSTALL}", file=sys.stderr)
        return 3
    parent = Path(tempfile.mkdtemp(prefix="harness-cluster-"))
    folder = parent / "c"
    words = ["keep", "--folder", str(folder), "--configuration", configuration]
    with (parent / "keeper.log").open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.serve", *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"pid": keeper.pid, "folder": str(folder)}))
    while not (parent / "ready").exists():
        if keeper.poll() is not None:
            sys.stderr.write((parent / "keeper.log").read_text())
            stop(record)
            return 3
        time.sleep(0.1)
    sacct = "; sacct" if CONFIGURATIONS[configuration].accounting else ""
    print(TEXT.format(folder=folder, sacct=sacct), end="")
    return 0


def keep(folder: Path, configuration: str) -> int:
    """Holds a cluster until SIGTERM, SIGINT or SIGHUP comes."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    try:
        with SlurmCluster(folder, configuration):
            folder.with_name("ready").touch()
            ended.wait()
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


def stop(record: Path) -> int:
    """Ends the keeper by its recorded id, and what a killed keeper may have left."""
    if not record.exists():
        print("no cluster is running")
        return 0
    known = json.loads(record.read_text())
    pid, folder = int(known["pid"]), Path(known["folder"])
    end = time.monotonic() + WAIT_S
    while is_keeper(pid, folder) and time.monotonic() < end:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)
    end_leftovers(folder)
    shutil.rmtree(folder.parent, ignore_errors=True)
    record.unlink()
    print("the cluster is gone")
    return 0


def is_keeper(pid: int, folder: Path) -> bool:
    """Whether the process with this id is still the keeper, and not another that got its id."""
    try:
        return str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
