"""Move a run to another place, on any file system.

On the same file system the directory is renamed.  Otherwise it is copied, every file is read
back and compared, and only then the old one is deleted; an interrupted move leaves the run whole
where it was.  A run that is running is not moved.  Where DST's parent folder has the setgid bit,
the files get its group.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "move a run to another place, verified"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_runs_root

    parser.add_argument("run", metavar="RUN", help="run directory, run id or spec name")
    parser.add_argument(
        "target", metavar="DST", type=Path, help="the new run directory, which must not exist yet"
    )
    add_runs_root(parser)


def run(args: argparse.Namespace) -> int:
    from harness.runs.move import move_run
    from harness.runs.registry import chosen_root, resolve_run
    from harness.runs.storage import readable_bytes

    paths = resolve_run(args.run, chosen_root(args.runs_root))
    moved = move_run(paths, args.target.expanduser())
    how = "renamed"
    if moved.copied:
        how = f"copied and compared, {moved.files} files, {readable_bytes(moved.bytes)}"
    print(f"{moved.source} -> {moved.target} ({how})")
    return 0
