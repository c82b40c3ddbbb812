"""What a spec would do: every value with its source, phases in steps, estimates.

Looks at the data folders, trains nothing and needs no TensorFlow.
"""

from __future__ import annotations

import argparse

HELP = "what a spec would do: values and their sources, phases, steps, estimates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_spec_arguments

    add_spec_arguments(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.cli.common import print_json, spec_from_arguments
    from harness.launch import planning

    planned = planning.make(spec_from_arguments(args))
    if args.json:
        print_json(planned.to_json())
    else:
        print(planning.describe(planned))
    return 0
