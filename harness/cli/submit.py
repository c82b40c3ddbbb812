"""Submit a spec to the scheduler of its site.

Checks the spec, asks the cluster whether the job can run there (--no-preflight leaves that out),
makes the run, submits it and returns.  A run that was stopped and has the same fixed fields is
gone on with, as with `harness run`.  The job saves when it is preempted or its time is up, and is
requeued by itself; see cluster.continue_by.

exit codes with --wait: as of `harness run`; 75 if it was cancelled or goes on only by hand.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.launch.submit import Submitted
    from harness.spec import Resolved

HELP = "submit a spec to the scheduler of its site"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_runs_root, add_spec_arguments

    add_spec_arguments(parser)
    add_runs_root(parser)
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        type=Path,
        help="directory of the run; one that holds a run continues it",
    )
    parser.add_argument(
        "--new", action="store_true", help="begin a new run even if one could be continued"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--dry-run", action="store_true", help="print the batch script and write nothing"
    )
    form.add_argument(
        "--prepare",
        action="store_true",
        help="write everything and print the sbatch line, for a shell outside this container",
    )
    add_submission_arguments(parser, form)


def add_submission_arguments(
    parser: argparse.ArgumentParser, form: argparse._MutuallyExclusiveGroup
) -> None:
    """What ``submit`` and ``resume`` share: ``--wait``, ``--no-preflight``, ``--json``."""
    from harness.cli.common import add_json

    form.add_argument("--wait", action="store_true", help="follow the run until it is over")
    parser.add_argument(
        "--no-preflight",
        action="store_true",
        help="do not ask the cluster first whether the job can run there",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.cli.common import spec_from_arguments

    resolved = spec_from_arguments(args, check_files=True)
    if args.dry_run:
        return _show_script(args, resolved)
    return submit_and_tell(args, resolved, args.run_dir, prepare=args.prepare)


def _show_script(args: argparse.Namespace, resolved: Resolved) -> int:
    from harness.cli.common import print_json
    from harness.launch import submit
    from harness.launch.backbone_check import look_for_backbone

    script = submit.dry_run(resolved, args.run_dir, args.runs_root)
    backbone = look_for_backbone(resolved)
    if args.json:
        found = None if backbone is None else backbone.to_json()
        print_json({"script": script, "backbone": found})
        return 0
    print(script, end="")
    if backbone is not None:
        _say(str(backbone))
    return 0


def submit_and_tell(
    args: argparse.Namespace, resolved: Resolved, run_dir: Path | None, *, prepare: bool = False
) -> int:
    """Submits, prints what was done, and follows the run if that is asked for."""
    from harness.cli.common import print_json
    from harness.launch import submit

    done = submit.submit(
        resolved,
        run_dir=run_dir,
        runs_root=args.runs_root,
        new=getattr(args, "new", False),
        check=not args.no_preflight,
        prepare=prepare,
        say=_say,
    )
    if args.json:
        print_json(done.to_json())
    else:
        _print(done)
    if not args.wait:
        return 0
    from harness.launch.watching import watch

    return watch(done.paths, resolved.site.polling.queue_s, say=_say)


def _print(done: Submitted) -> None:
    for note in done.notes:
        _say(f"note: {note}")
    if done.hidden:
        _say(f"not let through: {', '.join(done.hidden)} (they would beat the script's options)")
    if done.preflight_s is not None:
        _say(f"preflight took {done.preflight_s:.1f} s")
    if done.command is not None:
        print(done.command)
        return
    words = {"created": "new run", "continued": "continues", "finished": "is finished already:"}
    print(f"{words[done.how]:<9} {done.name}/{done.run_id}")
    print(f"path      {done.paths.root}")
    if done.job is not None:
        chain = f", a chain of {done.job.tasks}" if done.job.tasks else ""
        local = " on this machine" if done.job.executor == "local" else ""
        print(f"job       {done.job.id}{chain}{local}")
    for number, line in enumerate(done.next):
        print(f"{'' if number else 'next':<9} {line}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
