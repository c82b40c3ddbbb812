"""Say in words where a run stands, and why if it failed.

RUN is a run directory, a run id or its beginning, or a spec name (its newest run).  Joins the
run's files with what SLURM says of its job, if it was submitted.  Of a run that failed it shows the
end of the log of the rank that failed first.

exit codes with --watch: 0 finished, 75 stopped or cancelled; of a run that has failed or was
refused its own, as of `harness run`.
"""

from __future__ import annotations

import argparse

HELP = "say in words where a run stands"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_runs_root
    from harness.cli.common_jobs import add_no_scheduler

    parser.add_argument("run", metavar="RUN", help="run directory, run id or spec name")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="follow it until it is over; Ctrl-C ends the watching, not the run",
    )
    parser.add_argument(
        "--lines",
        metavar="N",
        type=int,
        default=40,
        help="lines of the log to show of a run that failed (default: %(default)s)",
    )
    add_no_scheduler(parser)
    add_runs_root(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.errors import UsageError
    from harness.launch.looking import look_at, look_closely
    from harness.launch.slurm import Slurm
    from harness.runs.registry import chosen_root, resolve_run

    if args.watch and args.json:
        raise UsageError("--watch prints lines, --json one value", action="choose one of them")
    paths = resolve_run(args.run, chosen_root(args.runs_root))
    slurm = None if args.no_scheduler else Slurm()
    if args.watch:
        from harness.cli.common_jobs import queue_s
        from harness.launch.watching import watch

        return watch(paths, queue_s(paths), slurm=slurm, ask_slurm=not args.no_scheduler)
    looks, _note = look_at([paths], slurm, who=True)
    facts = look_closely(looks[0], args.lines)
    if args.json:
        from harness.cli.common import print_json

        print_json(facts)
        return 0
    from harness.launch.telling import text_of

    print(text_of(facts))
    return 0
