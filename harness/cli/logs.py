"""Show what the jobs of a run have printed.

Of the newest job that has printed something, rank 0, unless --job and --rank say otherwise; first
standard output, then standard error, with a heading where the file changes.  Of several ranks
each line begins with [rank].  With -f it goes on over requeues, new jobs and new ranks until the
run is over.  Lines of the batch script begin with "harness: ".
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.runs.paths import RunPaths

HELP = "show what the jobs of a run have printed"
_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_runs_root
    from harness.cli.common_jobs import add_no_scheduler

    parser.add_argument("run", metavar="RUN", help="run directory, run id or spec name")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is added until it is over"
    )
    parser.add_argument(
        "--rank", metavar="N", default="0", type=_rank, help="the rank, or all (default: 0)"
    )
    parser.add_argument("--job", metavar="ID", help="the job, by its scheduler's id")
    parser.add_argument(
        "--lines",
        metavar="N",
        type=_count,
        default=100,
        help="last lines of each file, 0 for all (default: %(default)s)",
    )
    stream = parser.add_mutually_exclusive_group()
    stream.add_argument(
        "--out",
        dest="streams",
        action="store_const",
        const="out",
        default="both",
        help="standard output only",
    )
    stream.add_argument(
        "--err", dest="streams", action="store_const", const="err", help="standard error only"
    )
    add_no_scheduler(parser)
    add_runs_root(parser)


def _rank(text: str) -> int | None:
    return None if text == "all" else _count(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number from 0 on, got {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    from harness.launch.following import Printer, follow
    from harness.launch.logs import require_logs
    from harness.runs.record import read_record
    from harness.runs.registry import chosen_root, resolve_run

    paths = resolve_run(args.run, chosen_root(args.runs_root))
    read_record(paths)
    choice = {"rank": args.rank, "streams": args.streams}
    job = require_logs(paths, args.job, args.rank, waits=args.follow)
    printer = Printer(sys.stdout, prefix=args.rank is None)
    if not args.follow:
        follow(paths, printer, lambda: True, job=job, lines=args.lines, **choice)
        return 0
    over = _over(paths, args.no_scheduler)
    try:
        follow(paths, printer, over, job=args.job, lines=args.lines, **choice)
    except KeyboardInterrupt:
        print("harness: the run goes on as before", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _over(paths: RunPaths, no_scheduler: bool) -> Callable[[], bool]:
    from harness.cli.common_jobs import queue_s
    from harness.launch.slurm import Slurm
    from harness.launch.watching import Watcher

    watcher = Watcher(paths, queue_s(paths), None if no_scheduler else Slurm())
    return lambda: watcher.is_over(watcher.look())
