"""P12, lost work: what a kill costs of the work between two saves.

A run of ``harness run`` that saves at a fixed distance is killed with SIGKILL again and again, each
attempt in its second interval after its first step, at a moment that is drawn evenly: from each
of as many equal parts of the interval as there are kills one moment, in a random order.  Lost are
the steps that were done and that the next attempt has to do again, at the mean time of a step in
the attempt that was killed.  Half of the interval is lost by the kills themselves, the rest by what
is not yet on the disk.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.photographs import FOLDER, ROOT
from benchmarks.rows import Row, medians
from harness.runs.clock import parse_time

KILLS, SEED = 20, 12
INTERVAL_S = 5
"""Far less than anybody asks for, so what a save takes weighs more than it would."""
EXAMPLES, SIDE, BATCH = 50_000, 32, 8
"""More than all attempts get through: the end of an epoch would save as well."""
LIMIT_S = 300
"""From a start to its first step, at most."""

METRICS = "metrics.jsonl"
Line = dict[str, Any]


class Lost(NamedTuple):
    """What a kill has lost."""

    steps: int
    seconds: float


def rows() -> Iterator[Row]:
    """Seconds of training that a kill loses, against those between two saves."""
    lost = measure(KILLS)
    mean = sum(each.seconds for each in lost) / len(lost)
    yield Row(
        id="P12",
        work="mean work that is lost by a kill",
        peer="the interval between two saves",
        ours=mean,
        theirs=INTERVAL_S,
        target=0.6,
        better="lower",
        spread=medians([each.seconds for each in lost], [INTERVAL_S])[2],
        note=f"{len(lost)} kills drawn evenly, of up to {max(each.steps for each in lost)} steps, "
        f"a save every {INTERVAL_S} s",
    )


def measure(kills: int) -> list[Lost]:
    """What each of so many kills of one run has lost."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    try:
        (folder / "spec.yaml").write_text(json.dumps(_spec()))  # JSON is YAML
        before: list[Line] = []
        lost: list[Lost] = []
        for moment in (*moments(kills), None):
            lines = _attempt(folder, moment)
            if before:
                lost.append(lost_work(before, lines))
            before = lines
        return lost
    finally:
        shutil.rmtree(folder)


def moments(kills: int) -> list[float]:
    """When to kill, as parts of the interval, each in 0 to 1."""
    drawn = random.Random(SEED)  # noqa: S311 - no secret
    found = [(number + drawn.random()) / kills for number in range(kills)]
    drawn.shuffle(found)
    return found


def lost_work(killed: Sequence[Line], after: Sequence[Line]) -> Lost:
    """Of an attempt, given the lines of metrics that it left and those of the next one.

    Each has a line for every step.
    """
    steps = killed[-1]["step"] - (after[0]["step"] - 1)
    took = parse_time(killed[-1]["time"]) - parse_time(killed[0]["time"])
    return Lost(steps, steps * took.total_seconds() / (len(killed) - 1))


def _attempt(folder: Path, moment: float | None) -> list[Line]:
    """Starts the run and kills it; the lines of this attempt.

    Args:
        moment: part of the second interval that is over then; None: after the first step.
    """
    environment = {**os.environ, "HARNESS_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    run, heard = folder / "run", folder / "heard"
    command = [sys.executable, "-m", "harness", "run", str(folder / "spec.yaml")]
    seen = _newest(run)
    with heard.open("w") as file:
        process = subprocess.Popen(  # noqa: S603 - ours
            [*command, "--run-dir", str(run), "--quiet"], env=environment, stderr=file, stdout=file
        )
    try:
        end = time.monotonic() + LIMIT_S
        while _newest(run) == seen:
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"no step was done:\n{heard.read_text()}")
            time.sleep(0.01)
        if moment is not None:
            time.sleep((1 + moment) * INTERVAL_S)
        if process.poll() is not None:
            raise AssertionError(f"the run has ended by itself:\n{heard.read_text()}")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    lines = [json.loads(raw) for raw in _whole((run / METRICS).read_bytes())]
    return [line for line in lines if line["attempt"] == lines[-1]["attempt"]]


def _newest(run: Path) -> int:
    """Number of the last attempt that has written a line of metrics; 0 before there is one."""
    path = run / METRICS
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = _whole(file.read())
    return int(json.loads(lines[-1])["attempt"]) if lines else 0


def _whole(raw: bytes) -> list[bytes]:
    """The lines of a file that end as lines do: a kill may have cut the last one short."""
    return [line for line in raw.splitlines(keepends=True) if line.endswith(b"\n")]


def _spec() -> dict[str, Any]:
    return {
        "harness_spec": 1,
        "name": "killed",
        "plugins": [str(ROOT / "benchmarks" / "made_up.py")],
        "backbone": {"handle": "plugin:application", "options": {"name": "MobileNetV2"}},
        "data": {
            "source": {"plugin": "noise", "options": {"count": EXAMPLES, "side": SIDE}},
            "validation": None,
            "image_size": SIDE,
        },
        "training": {
            "batch_size": BATCH,
            "phases": [{"name": "all", "epochs": 1, "unfreeze": "all"}],
        },
        "logging": {"every": "1 steps", "images": False},
        "checkpoint": {"every": f"{INTERVAL_S}s", "keep": 2},
    }
