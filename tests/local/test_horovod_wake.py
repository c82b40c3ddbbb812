"""Horovod's thread, which sleeps until there is something to sum."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from harness.distribute.horovod_built import IDLE_TIME
from tests.horovod_here import HOW, lacking, need_horovod
from tests.local.rank_helpers import clean, place

PROGRAM = Path(__file__).with_name("waking_rank.py")
TIMES, SLEEP_S, ALL_S = 40, 60, 300


def test_what_is_to_be_summed_wakes_it() -> None:
    """Asleep for a minute after each sum it would take 40 minutes, not a few seconds."""
    if not need_horovod("gloo").wakes:
        lacking(f"Horovod was built without the change that wakes it: {HOW}")
    settings = {IDLE_TIME: str(SLEEP_S * 1000), "HOROVOD_CYCLE_TIME": "1"}
    job = f"waking-{os.getpid()}"
    ranks = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(TIMES)],
            env={**clean(), **place(job, rank, 2), **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=ALL_S) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, (out, err) in zip(ranks, said, strict=True):
        assert rank.returncode == 0, err
        assert json.loads(out) == [3 * turn for turn in range(TIMES)]
