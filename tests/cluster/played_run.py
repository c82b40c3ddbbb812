"""Plays the rank of a run, with harness's own account of it and no training.

``python played_run.py RUN PLAY...``: one PLAY for each start of the job, counted by
SLURM_RESTART_COUNT or the task of a chain; the last one is played from then on.

    train          an attempt begins, holds the lock, beats, and saves and leaves when asked to
    deaf           an attempt begins, beats, and hears no signal
    wait           waits for the file ``go`` in the run, then as train
    finish         an attempt goes through
    nan            an attempt fails
    refuse         an attempt finds that its data cannot be used
    silent         an attempt begins and its process ends without a word
    raise          a traceback, before any attempt
    broken-rank    rank 1 raises; the others print and wait
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from harness.runs.attempts import begin_attempt, end_attempt, job_facts, read_attempts
from harness.runs.heartbeat import write_heartbeat
from harness.runs.lock import RunLock
from harness.runs.marks import mark_failed, mark_finished
from harness.runs.paths import RunPaths

TOTAL = 100


def main() -> int:
    paths = RunPaths(Path(sys.argv[1]))
    start = int(os.environ.get("SLURM_ARRAY_TASK_ID", os.environ.get("SLURM_RESTART_COUNT", "0")))
    play = sys.argv[2:][min(start, len(sys.argv) - 3)]
    rank = int(os.environ.get("SLURM_PROCID", "0"))
    print(f"rank {rank} plays {play}", flush=True)
    if play == "raise":
        raise RuntimeError("the backbone is not there")
    if play == "broken-rank":
        return broken_rank(rank, paths)
    asked: list[int] = []
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, lambda got, _frame: asked.append(got))
    while play == "wait" and not (paths.root / "go").exists() and not asked:
        time.sleep(0.1)
    return attempt(paths, play, asked)


def broken_rank(rank: int, paths: RunPaths) -> int:
    waits = "waits for the others"
    if rank == 1:
        # Its end is that of all ranks: not before what they print has come to their logs.
        end = time.monotonic() + 60
        logs = [paths.job_log(os.environ["SLURM_JOB_ID"], other, "err") for other in (0, 2)]
        while time.monotonic() < end and not all(
            log.exists() and waits in log.read_text() for log in logs
        ):
            time.sleep(0.1)
        raise ValueError("rank 1 cannot read its shard")
    print(waits, file=sys.stderr, flush=True)
    time.sleep(120)
    return 0


def attempt(paths: RunPaths, play: str, asked: list[int]) -> int:
    with RunLock(paths):
        before = read_attempts(paths)
        first = max((one.to_step or 0 for one in before), default=0)
        number = begin_attempt(paths, job_facts(os.environ))
        step = first
        while play == "deaf" or (play in ("train", "wait") and not asked):
            step = min(TOTAL - 1, step + 1)
            write_heartbeat(
                paths, attempt=number, step=step, total_steps=TOTAL, phase="head", epoch=0,
                loss=0.5, eta_s=600.0,
            )  # fmt: skip
            print(f"step {step}", flush=True)
            time.sleep(0.2)
        if play == "silent":
            os._exit(9)
        if play == "nan":
            mark_failed(paths, "the loss is not finite", attempt=number, step=step)
            end_attempt(paths, number, "failed", first, step, "the loss is not finite")
        elif play == "refuse":
            end_attempt(paths, number, "refused", first, first, "no such data", exit_code=4)
            return 4
        elif play == "finish":
            write_heartbeat(paths, attempt=number, step=TOTAL, total_steps=TOTAL)
            end_attempt(paths, number, "finished", first, TOTAL)
            mark_finished(paths, attempt=number, step=TOTAL, total_steps=TOTAL)
        else:
            name = signal.Signals(asked[0]).name
            (paths.checkpoints / f"step-{step:08d}").mkdir(exist_ok=True)
            end_attempt(paths, number, "stopped", first, step, f"asked by {name}")
        return 0


if __name__ == "__main__":
    sys.exit(main())
