"""P9, checkpoints: how long the loop is held by a save, and how fast one comes to the disk.

Each state is that of a real run, with a checkpoint after every step; see ``saving.py``.  The loop
is held by the copy of the state that it makes for the thread that writes, by the check of the
weights and by the flush of the metrics.  No save waits for the one before, as at a cadence of a
minute none does.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.photographs import FOLDER, ROOT
from benchmarks.rows import Row, medians

STATES = ("MobileNetV2", "ResNet50")
"""Applications of Keras, trained whole with Adam: about 27 and 280 MB."""
SAVES = 10
"""The first is not counted."""
CADENCE_S = 60.0


def rows() -> Iterator[Row]:
    """Of each state the loop's stall, against the cadence and a memcpy, and the durable write."""
    for name in STATES:
        yield from _rows(name, measure(name, SAVES))


def measure(name: str, saves: int) -> dict[str, Any]:
    """What ``saving.py`` prints, of a process of its own."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    command = [sys.executable, "-m", "benchmarks.saving", name, str(saves), str(folder)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # noqa: S603 - ours
        if done.returncode:
            raise AssertionError(f"the run of {name} ended with {done.returncode}:\n{done.stderr}")
        return dict(json.loads(done.stdout.splitlines()[-1]))
    finally:
        shutil.rmtree(folder)


def _rows(name: str, found: dict[str, Any]) -> Iterator[Row]:
    took = {what: times[1:] for what, times in found["took"].items()}
    megabytes = found["bytes"] / 1e6
    state = f"{megabytes:.0f} MB in {found['arrays']} arrays, {name} and its Adam"
    held, fresh, spread = medians(took["held"], took["fresh"])
    yield Row(
        id="P9",
        work=f"the loop is held by a save, {name}",
        peer=f"{CADENCE_S:.0f} s from save to save",
        ours=held,
        theirs=CADENCE_S,
        target=0.01,
        better="lower",
        spread=spread,
        note=f"{state}, {1000 * held:.0f} ms",
    )
    touched = medians(took["held"], took["touched"])[1]
    yield Row(
        id="P9",
        work=f"the loop is held by a save, {name}",
        peer="numpy copies of the same arrays, in new memory as its own",
        ours=held,
        theirs=fresh,
        target=1.5,
        better="lower",
        spread=spread,
        note=f"{held / touched:.2f} times copies into memory that was written before",
    )
    rates = ([megabytes / each for each in took[side]] for side in ("committed", "dd"))
    ours, theirs, spread = medians(*rates)
    yield Row(
        id="P9",
        work=f"durable write of a checkpoint, {name}",
        peer="dd bs=4M conv=fsync of as many bytes, same disk",
        ours=ours,
        theirs=theirs,
        target=0.8,
        better="higher",
        spread=spread,
        note="MB/s, with checksums, manifest and removal of the one before",
    )
