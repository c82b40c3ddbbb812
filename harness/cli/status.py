"""Say in words where a run stands, and why if it failed.

RUN is a run directory, a run id or its beginning, or a spec name (its newest run).  Reads the
run's files only; it asks no scheduler.
"""

from __future__ import annotations

import argparse

HELP = "say in words where a run stands"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_runs_root

    parser.add_argument("run", metavar="RUN", help="run directory, run id or spec name")
    add_runs_root(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.runs.describe import paragraph, status
    from harness.runs.registry import chosen_root, resolve_run

    paths = resolve_run(args.run, chosen_root(args.runs_root))
    facts = status(paths)
    if args.json:
        from harness.cli.common import print_json

        print_json(facts)
        return 0
    print(paragraph(facts))
    print(f"\nrun directory  {facts['path']}")
    if facts["updated"]:
        print(f"updated        {facts['updated']}")
    return 0
