"""Whole processes: a run of the harness, and a script that does the same without it."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.photographs import FOLDER, ROOT

MODULE = ROOT / "build" / "quickstart" / "backbone" / "mobilenet_v2"


class Ended(NamedTuple):
    """How long a process took, and the test accuracy that it came to."""

    seconds: float
    accuracy: float


class Pairs(NamedTuple):
    """What both sides took and came to, in the order in which they ran."""

    ours: list[Ended]
    theirs: list[Ended]

    def seconds(self) -> tuple[float, float]:
        """Medians of both sides."""
        ours, theirs = (statistics.median(one.seconds for one in side) for side in self)
        return ours, theirs

    def accuracies(self) -> tuple[float, float]:
        """Means of both sides."""
        ours, theirs = (statistics.mean(one.accuracy for one in side) for side in self)
        return ours, theirs

    def spread(self) -> float:
        """(largest - smallest) / median of the seconds, of the side where that is larger."""
        return max(
            (max(times) - min(times)) / statistics.median(times)
            for times in ([one.seconds for one in side] for side in self)
        )

    def spread_of_accuracy(self) -> float:
        """Largest less smallest accuracy, of the side where that is larger."""
        found = ([one.accuracy for one in side] for side in self)
        return max(max(each) - min(each) for each in found)


def run_of_harness(spec: Mapping[str, Any]) -> tuple[Ended, dict[str, Any]]:
    """A run with all its logs and checkpoints and an empty cache, and its record."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    (folder / "spec.yaml").write_text(json.dumps(spec))  # JSON is YAML
    command = [sys.executable, "-m", "harness", "run", str(folder / "spec.yaml")]
    environment = {**os.environ, "HARNESS_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    try:
        took = _took([*command, "--run-dir", str(folder / "run"), "--quiet"], environment)[0]
        record = json.loads((folder / "run" / "run.json").read_text())
        return Ended(took, float(record["final"]["test_accuracy"])), record
    finally:
        shutil.rmtree(folder)


def run_of_script(name: str, words: Sequence[str]) -> Ended:
    """A script beside this one, whose last word is the accuracy."""
    script = Path(__file__).with_name(name)
    took, said = _took([sys.executable, str(script), *words], dict(os.environ))
    return Ended(took, float(said.split()[-1]))


def _took(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    begun = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)  # noqa: S603 - ours
    if done.returncode:
        raise AssertionError(f"{command[1]} ended with {done.returncode}:\n{done.stderr}")
    return time.perf_counter() - begun, done.stdout
