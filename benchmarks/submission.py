"""What ``harness submit`` adds to ``sbatch``, on the test cluster.

Both sides submit the same script.  The jobs are held, so that none begins while others are timed,
and each submission of ours begins a new run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Row, compare, seconds
from tests.cluster.packages import INSTALL, missing_packages
from tests.cluster.slurm_cluster import SlurmCluster

ROOT = Path(__file__).resolve().parent.parent
SPEC = "jobs/quickstart.yaml"
FACTOR, EXTRA_S = 1.2, 0.8
"""The promise: 1.2 times sbatch of the same script, and 0.8 s."""

QUESTIONS = (
    "scontrol ping",
    "scontrol show config",
    "scontrol --all --oneliner show partition",
    "scontrol --all --oneliner show node",
    "sacctmgr -nP show assoc user=root",
    "sbatch --test-only",
)
_LOGS = re.compile(r"=\S*/slurm/\S*_log")


def rows() -> Iterator[Row]:
    """Seconds of whole processes; none where SLURM is not installed, which is said."""
    missing = missing_packages()
    if missing:
        text = f"P10: submission is not measured, {', '.join(missing)} missing; next: {INSTALL}"
        print(text, file=sys.stderr)
        return
    folder = Path(tempfile.mkdtemp(prefix="harness-bench-"))
    try:
        with SlurmCluster(folder / "c") as cluster:
            yield from _rows(cluster, folder)
    finally:
        shutil.rmtree(folder)


def _rows(cluster: SlurmCluster, folder: Path) -> Iterator[Row]:
    environment = cluster.environment(HARNESS_RUNS_ROOT=str(folder / "runs"))
    held = ("submit", SPEC, "--new", "-o", "cluster.sbatch={hold: true}")
    script = folder / "same.sh"
    # The run of --dry-run is only an example: its logs go to a folder that is there.
    script.write_text(_LOGS.sub(f"={folder}/log", _run(environment, *held, "--dry-run")))

    def ours(*more: str) -> float:
        return seconds(lambda: _run(environment, *held, *more))

    def by_hand(*commands: str) -> float:
        def all_of_them() -> None:
            for command in commands:
                words = [*command.split(), *([str(script)] if "sbatch" in command else [])]
                subprocess.run(words, env=environment, check=True, cwd=ROOT, capture_output=True)  # noqa: S603

        return seconds(all_of_them)

    a, b, spread = compare(lambda: ours("--no-preflight"), lambda: by_hand("sbatch"))
    peer, promised = f"{FACTOR} x sbatch of the same script + {EXTRA_S} s", FACTOR * b + EXTRA_S
    note = f"{a - b:.2f} s more than sbatch's {b:.2f} s"
    work = "harness submit --no-preflight"
    yield Row("P10", work, peer, a, promised, 1.0, "lower", spread, note)
    checked, asked, spread = compare(ours, lambda: by_hand(*QUESTIONS))
    peer = "1.5 x the same questions by hand, one after the other"
    alone = checked - a
    note = f"{alone:.2f} s; {asked:.2f} s by hand"
    yield Row("P10", "its preflight", peer, alone, 1.5 * asked, 1.0, "lower", spread, note)
    cluster.clear()


def _run(environment: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "harness", *words]
    done = subprocess.run(  # noqa: S603 - ours
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout
