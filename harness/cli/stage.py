"""Copies packed data to this node's scratch, or to a folder, where a run reads them.

DATA is a packed set, or a spec (YAML), whose packed sets are all copied.  A run with
`cluster.stage: scratch`, or with the folder of --to, finds the copies and copies nothing itself.
Each file is verified by its SHA-256, those that are there already too; what was interrupted goes
on with the files that are missing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.worker.stage import Staged

HELP = "copy packed data to this node's scratch, or to a folder"
_WORKERS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_override

    add = parser.add_argument
    add("data", metavar="DATA", type=Path, help="a packed set, or a spec that names some")
    add(
        "--to",
        metavar="DIR",
        type=Path,
        help="where to (default: cluster.stage of the spec, else the node's scratch)",
    )
    add(
        "--workers",
        metavar="N",
        type=_number,
        default=_WORKERS,
        help=f"files copied at a time (default {_WORKERS})",
    )
    add("--site", metavar="SITE", help="site profile, which names the scratch variables")
    add_override(parser, "field of the spec", "data.train=packed/train")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    import os
    import signal
    import sys

    from harness.cli.common import print_json
    from harness.worker.stage import place_to, stage_sets

    # Ends as Ctrl-C does: files that are being copied are removed, the others stay.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sets, stage, variables = _asked(args)
    place = place_to(args.to, stage, variables, os.environ)
    done = stage_sets(
        sets,
        place,
        args.workers,
        os.environ,
        lambda text: print(text, file=sys.stderr, flush=True),
    )
    if args.json:
        print_json({"place": place.folder, "sets": [_facts(one) for one in done]})
    else:
        for one in done:
            _tell(one)
    return 0


def _asked(args: argparse.Namespace) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """The sets, where the spec has runs stage, and the site's scratch variables."""
    import os

    from harness.errors import UsageError
    from harness.worker.stage import open_data, sets_of

    if args.data.suffix.lower() in (".yaml", ".yml") and not args.data.is_dir():
        from harness.spec import load_spec

        resolved = load_spec(str(args.data), overrides=args.overrides, site=args.site)
        variables = tuple(resolved.site.scratch_variables)
        return sets_of(resolved.spec), resolved.spec.cluster.stage, variables
    if args.overrides:
        raise UsageError(
            "-o belongs to a spec",
            got=str(args.data),
            allowed="a spec, a file ending in .yaml or .yml",
            action="name the spec, or leave it out",
        )
    from harness.spec import load_user_config
    from harness.spec.site import load_site

    usual = os.environ.get("HARNESS_SITE") or load_user_config().site
    name = args.site or usual or "generic"
    return {str(args.data): open_data(args.data)}, "none", load_site(name).scratch_variables


def _facts(one: Staged) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(one)


def _tell(one: Staged) -> None:
    from harness.runs.storage import readable_bytes

    if one.removed:
        print(f"removed, as nobody used them: {', '.join(one.removed)}")
    if one.damaged:
        print(f"damaged, copied again: {', '.join(one.damaged)}")
    there = one.files - one.copied_files
    print(
        f"{one.name}: {one.files} files, {readable_bytes(one.bytes)}; {one.copied_files} copied "
        f"in {one.seconds:.1f} s, {there} were there; all verified"
    )
    print(f"  {one.folder}")


def _number(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 64:
        raise argparse.ArgumentTypeError(f"must be 1 to 64, was {text!r}")
    return number
