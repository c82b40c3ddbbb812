"""Submit a run again: it goes on from its last checkpoint.

For a run that was cancelled, was stopped for good, has failed, or was trained with `harness run`
so far.  Fields that may change (cluster, checkpoint, logging) can be given another value with -o.

With --site of another cluster, what the run had from its old site (partition, account, ...) gives
way to what the new site says; it is told which values those are.
"""

from __future__ import annotations

import argparse
import sys

HELP = "submit a run again, from its last checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_override, add_runs_root
    from harness.cli.submit import add_submission_arguments

    parser.add_argument("run", metavar="RUN", help="run directory, run id or spec name")
    add_override(parser, "field of the run's spec", "cluster.time=4:00:00")
    parser.add_argument("--site", metavar="SITE", help="site profile, if not that of the run")
    add_runs_root(parser)
    add_submission_arguments(parser, parser.add_mutually_exclusive_group())


def run(args: argparse.Namespace) -> int:
    from harness.cli.submit import submit_and_tell
    from harness.runs.registry import chosen_root, resolve_run
    from harness.spec.other_site import load_at_site

    paths = resolve_run(args.run, chosen_root(args.runs_root))
    resolved, changes = load_at_site(paths.spec, args.overrides, args.site)
    for change in changes:
        print(f"harness: {change}", file=sys.stderr)
    # Nothing will be queued for a finished run, so the cluster need not be asked about it.
    args.no_preflight |= paths.finished.exists() and not args.overrides
    return submit_and_tell(args, resolved, paths.root)
