"""Runs the tests of the SLURM cluster, and beside them the others, shared out among the processors.

    python -m tests.side_by_side [options of pytest]

The cluster's tests wait for the scheduler most of their time, and have limits of time to it; the
others stand back behind them.  What the cluster's say comes as a whole at the end; until then it is
in build/test-cluster.log.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
FAULTS_OF_SLURM = "tests/faults/test_on_a_cluster.py"
# The files with long tests first; those of a moment each fill up the end.
OTHERS = ["tests/faults", "tests/local", "tests/unit", f"--ignore={FAULTS_OF_SLURM}"]
_NOTHING_COLLECTED = 5
_BACK = 10  # how far the others stand back, as with nice(1)


def main(options: list[str]) -> int:
    """The first exit code that is not 0."""
    BUILD.mkdir(exist_ok=True)
    # Several need it, and two must not make it at once.
    prepare = [sys.executable, "jobs/quickstart_prepare.py", "--with-random"]
    subprocess.run(prepare, cwd=ROOT, check=True)
    # A file is of one worker: its tests share what they have prepared.
    shared = ["-n", str(workers()), "--dist=loadfile", "--no-loadscope-reorder"]
    groups: list[Group] = []
    try:
        groups.append(Group("cluster", ["tests/cluster", FAULTS_OF_SLURM, *options]))
        groups.append(Group(None, [*OTHERS, *shared, *options], back=_BACK))
        codes = [group.process.wait() for group in reversed(groups)]
    finally:
        for group in groups:
            group.end()
    # With -k some of them may have nothing to do.
    return next((code for code in codes if code not in (0, _NOTHING_COLLECTED)), min(codes))


def workers() -> int:
    """Processes of the tests beside the cluster's: two at least, as many wait now and then."""
    return max(2, len(os.sched_getaffinity(0)) // 2)


class Group:
    """Tests that run in a process of their own.

    Args:
        name: of the log that they write; None writes to this process' output.
        back: added to their niceness, so that others go first where there are too few cores.
    """

    def __init__(self, name: str | None, words: list[str], back: int = 0) -> None:
        self._name = name
        self._log = None if name is None else BUILD / f"test-{name}.log"
        out = None if self._log is None else self._log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *words], cwd=ROOT, stdout=out, stderr=out
        )
        if out is not None:
            out.close()
        # At once: what it starts has the niceness that it has then.
        nice = min(os.getpriority(os.PRIO_PROCESS, 0) + back, 19)
        os.setpriority(os.PRIO_PROCESS, self.process.pid, nice)

    def end(self) -> None:
        """Ends it if it runs, and prints its log."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        if self._log is not None:
            print(f"\n{'=' * 20} {self._name} {'=' * 20}", flush=True)
            sys.stdout.write(self._log.read_text(errors="replace"))
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
