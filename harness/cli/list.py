"""Show the runs under the runs root, newest first.

What is shown is read from the run directories themselves, joined with what SLURM says of their
jobs (asked once for all of them); a directory that cannot be read is shown as broken, with the
reason.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.launch.looking import Look

HELP = "show the runs, newest first"

_HEAD = ("RUN", "NAME", "STATE", "STEP", "METRIC", "UPDATED", "")
_COLOURS = {
    "running": "green",
    "starting": "green",
    "failed": "red",
    "broken": "red",
    "interrupted": "yellow",
    "cancelled": "yellow",
}
# Of the others the reason is the state itself, or only a process id.
_REASONED = ("broken", "failed", "interrupted", "queued", "waiting", "suspended", "cancelled")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_runs_root
    from harness.cli.common_jobs import add_no_scheduler

    add_no_scheduler(parser)
    add_runs_root(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.launch.looking import look_at
    from harness.launch.slurm import Slurm
    from harness.runs.registry import chosen_root, find_runs

    root = chosen_root(args.runs_root)
    looks, note = look_at(find_runs(root), None if args.no_scheduler else Slurm())
    if note is not None:
        print(f"harness: {note}; the states are those that the runs' files say", file=sys.stderr)
    if args.json:
        from harness.cli.common import print_json

        print_json([look.row_as_json() for look in looks])
    elif not looks:
        print(f"no runs in {root}")
    elif sys.stdout.isatty():
        _print_table(looks)
    else:
        _print_plain([_HEAD, *(_cells(look, ago=False) for look in looks)])
    return 0


def _cells(look: Look, *, ago: bool) -> tuple[str, ...]:
    from harness.runs.clock import seconds_since, words_for
    from harness.runs.describe import headline, progress

    row, joined = look.row, look.joined
    figure = headline(row)
    updated = (row.updated or "")[:19]
    if ago and row.updated:
        updated = f"{words_for(seconds_since(row.updated))} ago"
    return (
        row.run_id,
        row.name,
        joined.state,
        progress(row),
        f"{figure[0]} {figure[1]:.4g}" if figure else "",
        updated if ago or not updated else f"{updated}Z",
        _note(look),
    )


def _note(look: Look) -> str:
    """Why a run is in its state, where that is not plain, and in which job."""
    joined = look.joined
    why = joined.reason or "" if joined.state in _REASONED else ""
    job = f"job {look.job.id}" if look.job is not None and joined.is_live else ""
    return ": ".join(part for part in (job, why) if part)


def _print_table(looks: Iterable[Look]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in _HEAD:
        table.add_column(name, no_wrap=name not in ("", "METRIC"))
    for look in looks:
        cells = [Text(cell) for cell in _cells(look, ago=True)]  # Text: no markup from a name
        cells[2].stylize(_COLOURS.get(look.joined.state, ""))
        table.add_row(*cells)
    Console().print(table)


def _print_plain(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
