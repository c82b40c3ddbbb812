"""Show the runs under the runs root, newest first.

What is shown is read from the run directories themselves; a directory that cannot be read is
shown as broken, with the reason.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.runs.registry import RunSummary

HELP = "show the runs, newest first"

_HEAD = ("RUN", "NAME", "STATE", "STEP", "METRIC", "UPDATED", "")
_COLOURS = {"running": "green", "failed": "red", "broken": "red", "interrupted": "yellow"}
_REASONED = ("broken", "failed", "interrupted")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_runs_root

    add_runs_root(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from harness.runs.registry import chosen_root, find_runs, summarize

    root = chosen_root(args.runs_root)
    rows = [summarize(paths) for paths in find_runs(root)]
    if args.json:
        from harness.cli.common import print_json

        print_json([row.as_json() for row in rows])
    elif not rows:
        print(f"no runs in {root}")
    elif sys.stdout.isatty():
        _print_table(rows)
    else:
        _print_plain([_HEAD, *(_cells(row, ago=False) for row in rows)])
    return 0


def _cells(row: RunSummary, *, ago: bool) -> tuple[str, ...]:
    from harness.runs.clock import seconds_since, words_for
    from harness.runs.describe import headline, progress

    figure = headline(row)
    updated = (row.updated or "")[:19]
    if ago and row.updated:
        updated = f"{words_for(seconds_since(row.updated))} ago"
    return (
        row.run_id,
        row.name,
        row.state,
        progress(row),
        f"{figure[0]} {figure[1]:.4g}" if figure else "",
        updated if ago or not updated else f"{updated}Z",
        (row.reason or "") if row.state in _REASONED else "",
    )


def _print_table(rows: Iterable[RunSummary]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in _HEAD:
        table.add_column(name, no_wrap=name not in ("", "METRIC"))
    for row in rows:
        cells = [Text(cell) for cell in _cells(row, ago=True)]  # Text: no markup from a name
        cells[2].stylize(_COLOURS.get(row.state, ""))
        table.add_row(*cells)
    Console().print(table)


def _print_plain(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
