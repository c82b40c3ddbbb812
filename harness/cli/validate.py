"""Checks a job spec and says everything that is wrong with it, each with its line.

Also looks whether the data, the backbone and the plug-in files are there, whether the profile of
the site leaves room for the job, and whether strategy, ranks, GPUs and batch go together.  Nothing
is run and nothing is written.  Exit code 0: the spec is valid; 2: it is not; 3: not such ranks; 4:
packed data lack files.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from harness.cli.common import add_json, add_spec_arguments, print_json, spec_from_arguments
from harness.errors import DataError, EnvironmentNotAble, ExitCode, Problem, SpecError

if TYPE_CHECKING:
    from harness.spec import Resolved

HELP = "check a job spec and list everything that is wrong with it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    add_spec_arguments(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a summary of a valid spec, or every problem of an invalid one."""
    resolved, problems, code = _check(args)
    if args.json:
        print_json(_facts(resolved, problems))
    elif problems:
        for problem in problems:
            print(problem, file=sys.stderr)
        count = len(problems)
        print(f"{args.spec}: {count} problem{'' if count == 1 else 's'}", file=sys.stderr)
    else:
        assert resolved is not None, "a spec without problems was loaded"
        print(_summary(args.spec, resolved))
    return int(code)


def _check(args: argparse.Namespace) -> tuple[Resolved | None, list[Problem], ExitCode]:
    from harness.launch.earlier_check import check_earlier
    from harness.launch.packed_check import check_packed
    from harness.launch.request import checked_lanes, make_request
    from harness.launch.site_checks import check_by_profile

    try:
        resolved = spec_from_arguments(args, check_files=True)
        check_by_profile(resolved)
        make_request(resolved)
        checked_lanes(resolved.spec)
        check_packed(resolved)
        check_earlier(resolved)
        return resolved, [], ExitCode.DONE
    except (SpecError, EnvironmentNotAble, DataError) as error:
        return None, list(error.problems), error.exit_code


def _facts(resolved: Resolved | None, problems: list[Problem]) -> dict[str, Any]:
    import dataclasses

    facts: dict[str, Any] = {
        "ok": not problems,
        "problems": [dataclasses.asdict(problem) for problem in problems],
    }
    if resolved is not None:
        from harness.spec import spec_digest

        facts |= {"name": resolved.spec.name, "digest": spec_digest(resolved.spec)}
    return facts


def _summary(shown: str, resolved: Resolved) -> str:
    from harness.spec import spec_digest

    spec = resolved.spec
    phases = ", ".join(f"{p.name} ({p.epochs} epochs)" for p in spec.training.phases)
    data = spec.data.train or f"plugin:{spec.data.source.plugin if spec.data.source else ''}"
    rows = {
        "name": spec.name,
        "task": spec.task,
        "backbone": spec.backbone.handle,
        "data": data,
        "phases": phases,
        "site": resolved.site.name,
        "digest": spec_digest(spec)[:12],
    }
    lines = [f"{shown}: valid"]
    lines += [f"  {name:<9} {text}" for name, text in rows.items()]
    return "\n".join(lines)
