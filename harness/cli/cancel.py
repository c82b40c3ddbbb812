"""End the job of a run, so that the run can be gone on with.

A job that waits leaves the queue.  One that runs is asked to save and leave, and is not queued
again; with --now it is ended at once, and what it did since its last checkpoint is lost.
"""

from __future__ import annotations

import argparse

HELP = "end the job of a run; what it has done is kept"

_DONE = {
    "asked": "job {job} was asked to save and leave",
    "ended": "job {job} was ended",
    "taken": "job {job} was taken off the queue",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_runs_root

    parser.add_argument("run", metavar="RUN", help="run directory, run id or spec name")
    parser.add_argument("--now", action="store_true", help="end it at once, without a save")
    add_runs_root(parser)


def run(args: argparse.Namespace) -> int:
    import os
    import shlex

    from harness.launch.cancel import cancel
    from harness.launch.slurm import Slurm
    from harness.runs.registry import chosen_root, resolve_run

    paths = resolve_run(args.run, chosen_root(args.runs_root))
    done = cancel(paths, Slurm(), now=args.now)
    where = shlex.quote(os.path.relpath(paths.root))
    print(_DONE[done.how].format(job=done.job))
    if done.how == "asked":
        print(f"next  harness status --watch {where}   (sees it leave)")
        print(f"      harness resume {where}   (goes on from what it saved)")
    else:
        has_saved = any(paths.checkpoints.glob("step-*"))
        how = "goes on from its last checkpoint" if has_saved else "begins anew: nothing was saved"
        print(f"next  harness resume {where}   ({how})")
    return 0
