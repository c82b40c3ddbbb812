"""Show the checkpoints of a run, check them, or make the run go on from an earlier one.

Shown are those that a start would take up, those set aside by a roll-back, and what killed saves
have left.  --verify reads them and compares every file with its checksum.

--roll-back STEP makes the next start go on from that step.  Later checkpoints are set aside, in
checkpoints/set-aside-N, and nothing is deleted: --bring-back undoes it until the next start.
What the run has written about later steps goes back when it starts.  A run that is being trained or
has a job in the queue is refused.

exit codes: 0 done; 2 no such step, the run is under way, or somebody else's; 5 with --verify or
--roll-back, a checkpoint is damaged.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.launch.checkpoints import Row, Rows
    from harness.launch.roll_back import BroughtBack, RollBack
    from harness.runs.paths import RunPaths

HELP = "show, verify or roll back the checkpoints of a run"
_HEAD = ("STEP", "PHASE", "EPOCH", "WHEN", "SIZE", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_runs_root

    parser.add_argument("run", metavar="RUN", help="run directory, run id or spec name")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--verify", action="store_true", help="compare all files with checksums")
    what.add_argument(
        "--roll-back", metavar="STEP", type=int, help="go on from the checkpoint of this step"
    )
    what.add_argument(
        "--bring-back", action="store_true", help="undo the newest roll-back, before the next start"
    )
    parser.add_argument("--step", metavar="N", type=int, help="show or verify only this one")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="with --roll-back or --bring-back: say what would be done, change nothing",
    )
    add_runs_root(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.errors import UsageError
    from harness.runs.registry import chosen_root, resolve_run

    changes = args.roll_back is not None or args.bring_back
    if args.dry_run and not changes:
        raise UsageError("--dry-run belongs to a change", action="add --roll-back, or leave it out")
    if args.step is not None and changes:
        raise UsageError("--step belongs to what is shown", action="leave it out")
    paths = resolve_run(args.run, chosen_root(args.runs_root))
    return _change(args, paths) if changes else _show(args, paths)


def _show(args: argparse.Namespace, paths: RunPaths) -> int:
    from harness.cli.common import print_json
    from harness.errors import ExitCode
    from harness.launch.checkpoints import checkpoints_of

    found = checkpoints_of(paths, verify=args.verify, step=args.step)
    if args.json:
        print_json(found.as_json())
    else:
        _print(found)
    return int(ExitCode.STORAGE if found.damaged and args.verify else ExitCode.DONE)


def _print(found: Rows) -> None:
    from harness.runs.storage import readable_bytes

    if not found.rows:
        print(f"no checkpoints in {found.paths.checkpoints}")
        return
    rows = [_HEAD, *(_cells(found, row) for row in found.rows)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    size = readable_bytes(sum(row.bytes for row in found.rows))
    print(f"{len(found.rows)} in {found.paths.checkpoints}, {size}")
    for one in found.damaged:
        for damage in one.damages:
            print(f"damaged: {one.path}: {damage}")


def _cells(found: Rows, row: Row) -> tuple[str, ...]:
    from harness.runs.clock import seconds_since, words_for
    from harness.runs.storage import readable_bytes

    when = f"{row.time[:19]}Z" if row.time else ""
    if row.time and sys.stdout.isatty():
        when = f"{words_for(seconds_since(row.time))} ago"
    return (
        row.path.name if row.step is None else str(row.step),
        row.phase or "",
        "" if row.epoch is None else str(row.epoch),
        when,
        readable_bytes(row.bytes),
        ", ".join(_notes(found, row)),
    )


def _notes(found: Rows, row: Row) -> Iterator[str]:
    from harness.launch.checkpoints import CHECKPOINT

    if row.kind != CHECKPOINT:
        yield row.kind if row.step is None else f"{row.kind}: {row.path.parent.name}"
    if row.damages:
        yield "damaged"
    elif row.verified:
        yield "whole"
    if row.best:
        yield "best"
    if found.is_next(row):
        yield "next start"


def _change(args: argparse.Namespace, paths: RunPaths) -> int:
    from harness.cli.common import print_json
    from harness.launch.roll_back import bring_back, roll_back
    from harness.launch.slurm import Slurm

    if args.bring_back:
        back = bring_back(paths, Slurm(), dry_run=args.dry_run)
        if args.json:
            print_json(back.as_json())
        for line in () if args.json else _said_back(back, args.dry_run):
            print(line)
        return 0
    done = roll_back(paths, args.roll_back, Slurm(), dry_run=args.dry_run)
    if args.json:
        print_json(done.as_json())
    for line in () if args.json else _said(done, args.dry_run):
        print(line)
    return 0


def _said(done: RollBack, dry_run: bool) -> Iterator[str]:
    from harness.launch.roll_back import next_command

    if dry_run:
        yield "nothing is changed; this would be done:"
    yield f"rolled back    to step {done.step}"
    yield f"set aside      steps {', '.join(map(str, done.aside))}"
    if done.moved:
        yield f"               and {', '.join(done.moved)}"
    if done.folder is not None:
        yield f"               in {done.folder}"
    if done.best is not None:
        best = done.best
        yield f"best           step {best['step']}, {best['metric']} {best['value']:.4g}"
    elif done.lost_best is not None:
        yield f"best           step {done.lost_best} cannot be had any more; it is counted anew"
    else:
        yield "best           none by then"
    if done.lines:
        yield f"metrics        {done.lines} lines of later steps go back at the next start"
    if done.paths.export.exists():
        yield f"not changed    {done.paths.export}, exported before"
    if not dry_run:
        root = shlex.quote(str(done.paths.root))
        yield f"next           {next_command(done.paths)}"
        yield f"               harness checkpoints {root} --bring-back   (undoes it)"


def _said_back(back: BroughtBack, dry_run: bool) -> Iterator[str]:
    if dry_run:
        yield "nothing is changed; this would be done:"
    yield f"brought back   steps {', '.join(map(str, back.steps)) or 'none'}"
    if back.names:
        yield f"               and {', '.join(back.names)}"
