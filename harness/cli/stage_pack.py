"""``harness stage SPEC --pack DST``: packs as ``harness pack SPEC DST`` does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_pack(parser: argparse.ArgumentParser) -> None:
    """``--pack``."""
    parser.add_argument(
        "--pack",
        metavar="DST",
        type=Path,
        help="pack the training data of the spec to DST, as `harness pack SPEC DST`",
    )


def check_pack(args: argparse.Namespace) -> None:
    """Holds that nothing is asked for with ``--pack`` that packing does not take.

    Raises:
        UsageError: something is.
    """
    from harness.cli.common import is_spec
    from harness.errors import UsageError

    if not is_spec(Path(args.what)):
        raise UsageError(
            "--pack is of the data of a spec",
            got=args.what,
            action="pack other data with `harness pack SRC DST`",
        )
    others = {"--to": args.to, "--only data": args.only == "data"}
    others |= {"--only backbone": args.only == "backbone"}
    if args.slurm:
        others["--digest"] = args.digest
    of_spec = [one for one in args.overrides if not one.startswith("cluster.")]
    given = [name for name, value in others.items() if value]
    given += [f"-o {one}" for one in of_spec[:1]]
    if given:
        raise UsageError(
            f"--pack does not go with {given[0]}",
            got=f"--pack {args.pack}",
            allowed="--pack with the backbone of the spec, as it is written",
            action="give two commands",
        )


def submit_pack(args: argparse.Namespace) -> int:
    """Packs as a job."""
    from harness.cli import pack

    return pack.run(_as_pack(args))


def pack_here(args: argparse.Namespace) -> tuple[dict[str, Any], Callable[[], None]]:
    """Packs in this process; what was done as plain JSON, and what tells it."""
    from harness.cli.pack import pack_for

    return pack_for(_as_pack(args))


def _as_pack(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of ``harness pack`` that mean the same."""
    from harness.cli import pack

    parser = argparse.ArgumentParser(prog="harness pack")
    pack.add_arguments(parser)
    words = [args.what, str(args.pack)]
    words += ["--workers", str(args.workers)] if args.workers else []
    found = parser.parse_args(words)
    for name in ("slurm", "site", "dry_run", "no_preflight", "runs_root", "json", "overrides"):
        setattr(found, name, getattr(args, name))
    return found
