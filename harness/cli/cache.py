"""Show what is kept in the cache that runs share, or remove features that are not in use.

The cache is the folder HARNESS_CACHE, else `harness` in XDG_CACHE_HOME or ~/.cache.  Features of
frozen backbones are most of it; HARNESS_CACHE_GB limits them (100 if not set), and a run that needs
room removes those that are longest unused by itself.  What a run has read within the last hour is
in use and stays.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.data.feature_room import Kept

HELP = "show or prune the features that runs share"

_HEAD = ("KEY", "SIZE", "UNUSED", "BACKBONE", "EXAMPLES", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json

    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, help="what to do"
    )
    shown = actions.add_parser("list", help="show what is kept, the longest unused first")
    add_json(shown)
    pruned = actions.add_parser("prune", help="remove features, the longest unused first")
    group = pruned.add_mutually_exclusive_group(required=True)
    add = group.add_argument
    add("--to-gb", type=_number, metavar="GB", help="until no more than GB are left")
    add("--unused-days", type=_number, metavar="DAYS", help="that no run has read for DAYS")
    add("--all", action="store_true", help="all that is not in use")
    pruned.add_argument("--dry-run", action="store_true", help="show what would go, remove nothing")
    add_json(pruned)


def run(args: argparse.Namespace) -> int:
    import os
    import sys

    from harness.data.feature_room import entries
    from harness.worker.environment import cache_root
    from harness.worker.feature_room import limit_of

    environment = dict(os.environ)
    limit = limit_of(environment)
    root = cache_root(environment, lambda line: print(f"harness: {line}", file=sys.stderr))
    found = entries(root)
    if args.action == "prune":
        return _prune(args, found)
    if args.json:
        from harness.cli.common import print_json

        print_json({"root": str(root), "limit_bytes": limit, "features": [*map(_json, found)]})
        return 0
    _print(found)
    _print_sum(root, found, limit)
    return 0


def _prune(args: argparse.Namespace, found: list[Kept]) -> int:
    from harness.data.feature_room import remove, to_remove

    if args.unused_days is not None:
        least = args.unused_days * 86400
        chosen = [one for one in found if one.used_s >= least and not one.in_use]
    else:
        chosen = to_remove(found, 0 if args.all else int(args.to_gb * 1e9))
    gone = chosen if args.dry_run else [one for one in chosen if remove(one)]
    left = [one for one in chosen if one not in gone]
    if args.json:
        from harness.cli.common import print_json

        print_json({"removed": [*map(_json, gone)], "not_removed": [*map(_json, left)]})
    else:
        from harness.runs.storage import readable_bytes

        size = readable_bytes(sum(one.bytes for one in gone))
        word = "would remove" if args.dry_run else "removed"
        print(f"{word} {len(gone)} of {len(found)} sets of features, {size}")
        for one in left:
            print(f"not removed (in use by now, or somebody else's): {one.folder}")
    return _code(left)


def _code(left: list[Kept]) -> int:
    from harness.errors import ExitCode

    return int(ExitCode.STORAGE if left else ExitCode.DONE)


def _print(found: list[Kept]) -> None:
    from harness.runs.clock import words_for
    from harness.runs.storage import readable_bytes

    rows = [_HEAD]
    for one in found:
        layout = one.facts.get("layout", {})
        rows.append(
            (
                one.folder.name[:12],
                readable_bytes(one.bytes),
                words_for(one.used_s),
                str(one.facts.get("backbone", "?"))[:12],
                str(layout.get("examples", "?")),
                "in use" if one.in_use else "",
            )
        )
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    for row in rows if found else []:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def _print_sum(root: Path, found: list[Kept], limit: int) -> None:
    from harness.runs.storage import readable_bytes

    size = readable_bytes(sum(one.bytes for one in found))
    print(f"{len(found)} sets of features in {root}, {size} of {readable_bytes(limit)}")


def _json(one: Kept) -> dict[str, Any]:
    return {
        "key": one.folder.name,
        "folder": str(one.folder),
        "bytes": one.bytes,
        "unused_s": round(one.used_s),
        "in_use": one.in_use,
        "facts": one.facts,
    }


def _number(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return number
