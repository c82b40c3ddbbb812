"""Begin a run of your own from a checkpoint of another run, with other settings if need be.

The checkpoint is verified before it is copied; damaged ones are named and passed over.  The new
run records which run and step it comes from.  The other run may be a colleague's: it is only
read, and nothing of it is executed but plug-in files whose owner your user config trusts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "begin a run of your own from a checkpoint of another"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_override, add_runs_root

    parser.add_argument("run", metavar="RUN", help="run directory, run id or spec name")
    add_override(parser, "field of the run's spec", "training.seed=2")
    parser.add_argument("--run-dir", metavar="DIR", type=Path, help="directory of the new run")
    parser.add_argument(
        "--step", type=int, help="checkpoint to begin from (default: the newest that verifies)"
    )
    add_runs_root(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.cli.common import print_json
    from harness.launch.fork import fork_run
    from harness.runs.registry import chosen_root, resolve_run

    forked = fork_run(
        resolve_run(args.run, chosen_root(args.runs_root)),
        overrides=args.overrides,
        run_dir=args.run_dir,
        runs_root=args.runs_root,
        step=args.step,
        log=lambda text: print(f"harness: {text}", file=sys.stderr),
    )
    if args.json:
        print_json(forked.as_json())
        return 0
    print(f"forked {forked.parent['run_id']} at step {forked.parent['step']}")
    print(f"run directory  {forked.paths.root}")
    print(f"next           {forked.next_command}")
    return 0
