"""P10, start-up and submission: how soon the command line answers, and what it adds to sbatch.

The peers are what the same answer costs otherwise.  For ``--help``, a training script of the usual
kind, which imports TensorFlow before it looks at its arguments.  For ``validate``, the least that
anything with these libraries takes: a process that imports pydantic and ruamel.yaml and reads the
file, checking nothing.
The promises are the times that users were given.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks import submission
from benchmarks.rows import Row, compare, seconds

ROOT = Path(__file__).resolve().parent.parent
SPEC = "jobs/quickstart.yaml"

SCRIPT = """
import argparse
import tensorflow, tf_keras
argparse.ArgumentParser().parse_args()
"""
READER = f"""
import pydantic
from pydantic import BaseModel
from ruamel.yaml import YAML
YAML().load(open({SPEC!r}))
"""


def _process(*arguments: str) -> float:
    def whole() -> None:
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)  # noqa: S603 - ours

    return seconds(whole)


CASES = (
    # work, our arguments, peer, its program, its arguments, target ratio, promised seconds
    (
        "harness --help",
        ("--help",),
        "a script that imports TensorFlow, --help",
        SCRIPT,
        ("--help",),
        0.1,
        0.30,
    ),
    (
        "harness validate quickstart",
        ("validate", SPEC),
        "import pydantic and ruamel.yaml, read the file",
        READER,
        (),
        3.0,
        0.60,
    ),
)


def rows() -> Iterator[Row]:
    """``--help``, ``validate`` and ``submit`` as whole processes, seconds."""
    for work, arguments, peer, program, its_arguments, target, promised in CASES:
        ours, theirs, spread = compare(
            partial(_process, "-m", "harness", *arguments),
            partial(_process, "-c", program, *its_arguments),
        )
        yield Row("P10", work, peer, ours, theirs, target, "lower", spread, "whole processes")
        limit = f"the promise, {promised:.2f} s"
        yield Row("P10", work, limit, ours, promised, 1.0, "lower", spread, "the same runs")
    yield from submission.rows()
