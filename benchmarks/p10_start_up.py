"""P10, start-up: how soon the command line answers.

The peers are what the same answer costs otherwise.  For ``--help``, a training script of the usual
kind, which imports TensorFlow before it looks at its arguments.  For ``validate``, the least that
anything with these libraries takes: a process that imports pydantic and ruamel.yaml and reads the
file, checking nothing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


def rows() -> Iterator[Row]:
    """``--help`` and ``validate`` as whole processes, seconds."""
    ours, theirs, spread = compare(
        lambda: _process("-m", "harness", "--help"), lambda: _process("-c", SCRIPT, "--help")
    )
    yield Row(
        id="P10",
        work="harness --help",
        peer="a script that imports TensorFlow, --help",
        ours=ours,
        theirs=theirs,
        target=0.1,
        better="lower",
        spread=spread,
        note="whole processes",
    )
    ours, theirs, spread = compare(
        lambda: _process("-m", "harness", "validate", SPEC), lambda: _process("-c", READER)
    )
    yield Row(
        id="P10",
        work="harness validate quickstart",
        peer="import pydantic and ruamel.yaml, read the file",
        ours=ours,
        theirs=theirs,
        target=3.0,
        better="lower",
        spread=spread,
        note="whole processes",
    )
