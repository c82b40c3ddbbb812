"""Metrics of a run's best weights over its test data, or over other data."""

from __future__ import annotations

import argparse

HELP = "metrics of a run's best weights over its test data or other data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json
    from harness.cli.opened import add_run

    add_run(parser)
    parser.add_argument(
        "--data", metavar="PATH", help="folder per class, or manifest; default: the spec's test"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.cli.common import print_json
    from harness.cli.opened import open_run
    from harness.runs.figures import figure

    loaded = open_run(args)
    figures = loaded.evaluate(args.data)
    if args.json:
        print_json({"step": loaded.step, "metrics": figures})
        return 0
    print(f"step {loaded.step}")
    width = max(12, *map(len, figures))
    for name, value in figures.items():
        print(f"  {name:<{width}} {figure(value)}")
    return 0
