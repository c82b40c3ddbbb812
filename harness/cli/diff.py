"""Compare the spec of a run with another spec, and say what each difference would mean.

Each field that differs is shown with the run's value, the other value, and whether the run could
continue with it: free fields may change, the last phase's epochs may be raised, all others need
a fork or a new run.

exit codes: 0 the run can be continued with SPEC; 2 it cannot, which is what
`harness run SPEC --run-dir RUN` would answer too.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.errors import ExitCode

if TYPE_CHECKING:
    from harness.runs.continuing import Comparison

HELP = "compare a run's spec with another one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_runs_root, add_spec_arguments

    parser.add_argument("run", metavar="RUN", help="run directory, run id or spec name")
    add_spec_arguments(parser)
    add_runs_root(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.cli.common import print_json, spec_from_arguments
    from harness.runs.continuing import compare, fork_command, meaning
    from harness.runs.registry import chosen_root, resolve_run
    from harness.spec import spec_from_file_resolved

    paths = resolve_run(args.run, chosen_root(args.runs_root))
    old, new = spec_from_file_resolved(paths.spec), spec_from_arguments(args).spec
    found = compare(old, new)
    forkable = found.can_fork and not found.can_continue
    command = fork_command(paths, old, new) if forkable else None
    if args.json:
        print_json(
            {
                "run": paths.root,
                "can_continue": found.can_continue,
                "can_fork": found.can_fork,
                "fork_command": command,
                "differences": [
                    {
                        "path": one.path,
                        "old": one.old,
                        "new": one.new,
                        "resume": one.resume,
                        "meaning": meaning(one),
                    }
                    for one in found.differences
                ],
            }
        )
    else:
        print(_words(found, command))
    return ExitCode.DONE if found.can_continue else ExitCode.USAGE


def _words(found: Comparison, command: str | None) -> str:
    from harness.runs.continuing import meaning
    from harness.spec.base import show

    if not found.differences:
        return "the specs are equal; the run can be continued"
    lines = [
        f"{one.path}: {show(one.old)} -> {show(one.new)}  [{one.resume}] {meaning(one)}"
        for one in found.differences
    ]
    if found.can_continue:
        verdict = "the run can be continued with this spec"
    elif command:
        verdict = (
            f"the run cannot be continued with this spec; to go on from its weights:\n{command}"
        )
    else:
        verdict = "the run cannot be continued or forked with this spec; start a new run"
    return "\n".join([*lines, "", verdict])
