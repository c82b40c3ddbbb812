"""Train a spec here and now, in this process.

The same command again continues a run that was stopped or killed, from its last checkpoint.
"""

from __future__ import annotations

import argparse

HELP = "train a spec here and now; the same command again continues"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_runs_root, add_spec_arguments

    add_spec_arguments(parser)
    add_runs_root(parser)
    parser.add_argument(
        "--run-dir", metavar="DIR", help="directory of the run; one that holds a run continues it"
    )
    parser.add_argument(
        "--new", action="store_true", help="begin a new run even if one could be continued"
    )
    parser.add_argument("--plain", action="store_true", help="plain lines, no progress bar")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    import os

    from harness.distribute.topology import Topology
    from harness.launch import here

    result = here.run_spec(
        args.spec,
        overrides=args.overrides,
        site=args.site,
        run_dir=args.run_dir,
        runs_root=args.runs_root,
        new=args.new,
        owns_process=True,
        plain=args.plain or None,
        quiet=args.quiet or args.json,
    )
    if not Topology.from_environment(os.environ).is_first:
        return 0  # rank 0 speaks for all
    if args.json:
        from harness.cli.common import print_json

        print_json(result.to_json())
    elif not args.quiet:
        print(here.summary(result))
    return 0
