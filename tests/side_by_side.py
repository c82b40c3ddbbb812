"""Runs the tests in two processes at once: those of this machine, and those of the SLURM cluster.

    python -m tests.side_by_side [options of pytest]

The cluster's tests wait for the scheduler most of their time.  Their output comes as a whole when
both have ended; meanwhile it is in build/test-cluster.log.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "build" / "test-cluster.log"
HERE, CLUSTER = ("tests/unit", "tests/local"), ("tests/cluster",)
_NOTHING_COLLECTED = 5


def main(options: list[str]) -> int:
    """The first exit code of the two that is not 0."""
    LOG.parent.mkdir(exist_ok=True)
    # Both need it, and two must not make it at once.
    prepare = [sys.executable, "jobs/quickstart_prepare.py", "--with-random"]
    subprocess.run(prepare, cwd=ROOT, check=True)
    with LOG.open("wb") as log:
        cluster = _pytest(CLUSTER, options, log)
        here = _pytest(HERE, options, None)
        try:
            codes = [here.wait(), cluster.wait()]
        finally:
            for process in (here, cluster):
                if process.poll() is None:
                    process.terminate()
                    process.wait()
            print(f"\n{'=' * 20} tests/cluster {'=' * 20}", flush=True)
            sys.stdout.write(LOG.read_text(errors="replace"))
    # With -k one of the two may have nothing to do.
    return next((code for code in codes if code not in (0, _NOTHING_COLLECTED)), min(codes))


def _pytest(
    folders: tuple[str, ...], options: list[str], log: object | None
) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "pytest", *folders, *options]
    return subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
