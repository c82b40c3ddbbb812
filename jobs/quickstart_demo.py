"""The rest of ``make demo``: runs the quickstart, predicts held-back pictures, says what next.

    python jobs/quickstart_demo.py --run-dir build/demo/quickstart

Every step is a ``harness`` command and is shown before it is run.  The same command again goes
on with an interrupted run and does not repeat a finished one.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

SPEC = "jobs/quickstart.yaml"
HELDBACK = "build/quickstart/heldback"


def harness(*arguments: str) -> None:
    """Shows and runs one command of harness; its failure is ours, with its exit code."""
    print("\n$ " + shlex.join(["harness", *arguments]), flush=True)
    command = [str(Path(sys.executable).with_name("harness")), *arguments]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 - our own command
    if code != 0:
        sys.exit(code)


def main() -> None:
    """Reads the command line and walks through the quickstart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", type=Path, default=Path("build/demo/quickstart"))
    run_dir = parser.parse_args().run_dir
    begun = time.monotonic()
    harness("run", SPEC, "--run-dir", str(run_dir))
    harness("predict", str(run_dir), HELDBACK)

    final = json.loads((run_dir / "run.json").read_text())["final"]
    print(f"""
The run is in      {run_dir}
Test accuracy      {final["test_accuracy"]:.3f}
Run and predict    {time.monotonic() - begun:.0f} s

What next (`. .venv/bin/activate` puts harness on your path):
  harness status {run_dir}
  tensorboard --logdir {run_dir}/tensorboard
  harness plan {SPEC}
  harness run {SPEC} -o training.seed=2 --run-dir build/demo/seed-2
  harness export {run_dir}""")


if __name__ == "__main__":
    main()
