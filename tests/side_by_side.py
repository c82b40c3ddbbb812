"""Runs the tests in two processes at once: those of this machine, and those of the SLURM cluster.

    python -m tests.side_by_side [options of pytest]

The cluster's tests wait for the scheduler most of their time, and have ended long before the
others.  Some of those (:data:`BEHIND`) therefore follow them.  What both say comes as a whole when
all have ended; until then it is in build/test-cluster.log and build/test-behind.log.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
BEHIND = "tests/local/test_training_[k-z]*.py"
_NOTHING_COLLECTED = 5


def main(options: list[str]) -> int:
    """The first exit code that is not 0."""
    BUILD.mkdir(exist_ok=True)
    # Several need it, and two must not make it at once.
    prepare = [sys.executable, "jobs/quickstart_prepare.py", "--with-random"]
    subprocess.run(prepare, cwd=ROOT, check=True)
    behind = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob(BEHIND))
    assert behind, "there are such tests"
    left_out = [f"--ignore={file}" for file in behind]
    groups = (("cluster", ["tests/cluster"]), ("behind", behind))
    beside = Beside(groups, options)
    here = _pytest(["tests/unit", "tests/local", *left_out, *options], None)
    beside.start()
    try:
        code = here.wait()
        beside.join()
    finally:
        beside.end()
        if here.poll() is None:
            here.terminate()
            here.wait()
        for name in beside.begun:
            print(f"\n{'=' * 20} {name} {'=' * 20}", flush=True)
            sys.stdout.write(_log(name).read_text(errors="replace"))
    # With -k some of them may have nothing to do.
    # A group that did not end is one that failed.
    codes = [code, *beside.codes, *[1] * (len(groups) - len(beside.codes))]
    return next((code for code in codes if code not in (0, _NOTHING_COLLECTED)), min(codes))


class Beside(threading.Thread):
    """Groups of tests, one after the other, each with a log of its own.

    Attributes:
        begun: names of those that were started.
        codes: how they ended.
    """

    def __init__(self, groups: tuple[tuple[str, list[str]], ...], options: list[str]) -> None:
        super().__init__(daemon=True)
        self._groups, self._options = groups, options
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        self.begun: list[str] = []
        self.codes: list[int] = []

    def run(self) -> None:
        """Runs them."""
        for name, files in self._groups:
            if self._ended:
                return
            self.begun.append(name)
            with _log(name).open("wb") as log:
                self._process = _pytest([*files, *self._options], log)
                self.codes.append(self._process.wait())

    def end(self) -> None:
        """Ends what runs, and starts nothing more."""
        self._ended = True
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait()


def _log(name: str) -> Path:
    return BUILD / f"test-{name}.log"


def _pytest(words: list[str], log: object | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, stdout=log, stderr=log
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
