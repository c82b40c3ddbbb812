"""Submit a run again: it goes on from its last checkpoint.

For a run that was cancelled, was stopped for good, has failed, or was trained with `harness run`
so far.  Fields that may change (cluster, checkpoint, logging) can be given another value with -o.
"""

from __future__ import annotations

import argparse

HELP = "submit a run again, from its last checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_runs_root
    from harness.cli.submit import add_submission_arguments

    parser.add_argument("run", metavar="RUN", help="run directory, run id or spec name")
    parser.add_argument(
        "-o",
        "--override",
        dest="overrides",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="set one field of the run's spec, as -o cluster.time=4:00:00; may be given again",
    )
    parser.add_argument("--site", metavar="SITE", help="site profile, if not that of the run")
    add_runs_root(parser)
    add_submission_arguments(parser, parser.add_mutually_exclusive_group())


def run(args: argparse.Namespace) -> int:
    from harness.cli.submit import submit_and_tell
    from harness.runs.registry import chosen_root, resolve_run
    from harness.spec import load_spec

    paths = resolve_run(args.run, chosen_root(args.runs_root))
    resolved = load_spec(paths.spec, overrides=args.overrides, site=args.site)
    return submit_and_tell(args, resolved, paths.root)
