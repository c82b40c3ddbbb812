"""Show what is kept in the cache that runs share, or remove what is not in use.

The cache is the folder HARNESS_CACHE, else `harness` in XDG_CACHE_HOME or ~/.cache, as the jobs of
the site have these variables: those of its profile go before those of the shell.  Features of
frozen backbones are most of it; HARNESS_CACHE_GB limits them (100 if not set), and a run that needs
room removes those that are longest unused by itself.  What a run has read within the last hour is
in use and stays.  Backbones that were fetched are in it too; no run removes them by itself.  One
that a run needs which has not come to its end is in use.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.data.feature_room import Kept
    from harness.model.kept import KeptBackbone

HELP = "show or prune the features and backbones that runs share"

_FEATURES, _BACKBONES, _RECORDS = "features", "backbones", "records"
_KINDS = (_FEATURES, _RECORDS)
_HEAD = ("KEY", "SIZE", "UNUSED", "BACKBONE", "EXAMPLES", "")
_HEAD_OF_BACKBONES = ("NAME", "SIZE", "UNUSED", "HANDLE", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json

    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, help="what to do"
    )
    shown = actions.add_parser("list", help="show what is kept, the longest unused first")
    _add_site(shown)
    add_json(shown)
    pruned = actions.add_parser(
        "prune", help="remove what is not in use: features first, then backbones"
    )
    group = pruned.add_mutually_exclusive_group(required=True)
    add = group.add_argument
    add("--to-gb", type=_number, metavar="GB", help="until no more than GB are left")
    add("--unused-days", type=_number, metavar="DAYS", help="that no run has read for DAYS")
    add("--all", action="store_true", help="all that is not in use")
    pruned.add_argument("--only", choices=(_FEATURES, _BACKBONES), help="leave the others alone")
    pruned.add_argument("--dry-run", action="store_true", help="show what would go, remove nothing")
    _add_site(pruned)
    add_json(pruned)


def _add_site(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--site",
        metavar="SITE",
        help="site whose jobs have the cache: name or YAML file of its profile (default: "
        "HARNESS_SITE, then the user config)",
    )


def run(args: argparse.Namespace) -> int:
    import sys

    from harness.cli.common import usual_site
    from harness.data.cache_room import limit_of
    from harness.data.feature_room import entries
    from harness.launch.backbone_check import environment_at
    from harness.model.kept import backbones as kept_backbones
    from harness.model.kept import sweep
    from harness.worker.environment import cache_root

    environment = environment_at(usual_site(args.site))
    limit = limit_of(environment)
    root = cache_root(environment, lambda line: print(f"harness: {line}", file=sys.stderr))
    found, backbones = entries(root), kept_backbones(root)
    if args.action == "prune":
        if not args.dry_run:
            sweep(root)
        return _prune(args, found, backbones)
    if args.json:
        from harness.cli.common import print_json

        of_kind = {kind: [_json(one) for one in found if one.kind == kind] for kind in _KINDS}
        shown = [*map(_json_backbone, backbones)]
        print_json({"root": str(root), "limit_bytes": limit, **of_kind, _BACKBONES: shown})
        return 0
    _print(found)
    _print_sum(root, found, limit)
    if backbones:
        _print_backbones(backbones)
    return 0


def _prune(args: argparse.Namespace, found: list[Kept], backbones: list[KeptBackbone]) -> int:
    from harness.data.feature_room import remove
    from harness.model.kept import remove as remove_backbone

    features = [] if args.only == _BACKBONES else found
    backbones = [] if args.only == _FEATURES else backbones
    chosen, others = _chosen(args, features, backbones)
    gone = chosen if args.dry_run else [one for one in chosen if remove(one)]
    gone_too = others if args.dry_run else [one for one in others if remove_backbone(one)]
    left = [one for one in chosen if one not in gone]
    left_too = [one for one in others if one not in gone_too]
    if args.json:
        from harness.cli.common import print_json

        removed = [*map(_json, gone), *map(_json_backbone, gone_too)]
        kept = [*map(_json, left), *map(_json_backbone, left_too)]
        print_json({"removed": removed, "not_removed": kept})
    else:
        if args.only != _BACKBONES:
            _say_removed(args, gone, len(features), "sets of features and indexes of TFRecords")
        if backbones:
            _say_removed(args, gone_too, len(backbones), "backbones")
        for path in [*(one.folder for one in left), *(one.path for one in left_too)]:
            print(f"not removed (in use by now, or somebody else's): {path}")
    return _code(bool(left or left_too))


def _chosen(
    args: argparse.Namespace, features: list[Kept], backbones: list[KeptBackbone]
) -> tuple[list[Kept], list[KeptBackbone]]:
    """What is to go."""
    from harness.data.feature_room import to_remove

    if args.unused_days is not None:
        least = args.unused_days * 86400
        chosen = [one for one in features if one.used_s >= least and not one.in_use]
        return chosen, [one for one in backbones if one.used_s >= least and not one.in_use]
    allowed = 0 if args.all else int(args.to_gb * 1e9)
    # What can be computed again goes before what has to be fetched.
    chosen = to_remove(features, max(0, allowed - sum(one.bytes for one in backbones)))
    left = sum(one.bytes for one in features) - sum(one.bytes for one in chosen)
    return chosen, to_remove(backbones, allowed - left)


def _say_removed(
    args: argparse.Namespace, gone: Sequence[Kept | KeptBackbone], of: int, what: str
) -> None:
    from harness.runs.storage import readable_bytes

    word = "would remove" if args.dry_run else "removed"
    print(f"{word} {len(gone)} of {of} {what}, {readable_bytes(sum(one.bytes for one in gone))}")


def _code(is_left: bool) -> int:
    from harness.errors import ExitCode

    return int(ExitCode.STORAGE if is_left else ExitCode.DONE)


def _print(found: list[Kept]) -> None:
    from harness.runs.clock import words_for
    from harness.runs.storage import readable_bytes

    rows = [_HEAD]
    for one in found:
        is_index = one.kind == _RECORDS
        layout = one.facts if is_index else one.facts.get("layout", {})
        rows.append(
            (
                one.folder.name[:12],
                readable_bytes(one.bytes),
                words_for(one.used_s),
                "TFRecords" if is_index else str(one.facts.get("backbone", "?"))[:12],
                str(layout.get("examples", "?")),
                "in use" if one.in_use else "",
            )
        )
    if found:
        _print_table(rows)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def _print_sum(root: Path, found: list[Kept], limit: int) -> None:
    from harness.runs.storage import readable_bytes

    size = readable_bytes(sum(one.bytes for one in found))
    print(f"{_many(found)} in {root}, {size} of {readable_bytes(limit)}")


def _many(found: Sequence[Kept]) -> str:
    """How many of which kind."""
    indexes = sum(one.kind == _RECORDS for one in found)
    words = f"{len(found) - indexes} sets of features"
    return f"{words} and {indexes} indexes of TFRecords" if indexes else words


def _print_backbones(found: Sequence[KeptBackbone]) -> None:
    from harness.runs.clock import words_for
    from harness.runs.storage import readable_bytes

    rows: list[tuple[str, ...]] = [_HEAD_OF_BACKBONES]
    for one in found:
        use = "in use"
        if one.runs:
            use += f" by {len(one.runs)} run{'' if len(one.runs) == 1 else 's'}"
        size, unused = readable_bytes(one.bytes), words_for(one.used_s)
        rows.append((one.path.name[:12], size, unused, one.handle or "?", use * one.in_use))
    _print_table(rows)
    many = f"{len(found)} backbone{'' if len(found) == 1 else 's'}"
    print(f"{many}, {readable_bytes(sum(one.bytes for one in found))}")


def _json_backbone(one: KeptBackbone) -> dict[str, Any]:
    return {
        "kind": "backbone",
        "handle": one.handle,
        "path": str(one.path),
        "bytes": one.bytes,
        "unused_s": round(one.used_s),
        "in_use": one.in_use,
        "runs": [str(run) for run in one.runs],
    }


def _json(one: Kept) -> dict[str, Any]:
    return {
        "kind": one.kind,
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
