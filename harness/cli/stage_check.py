"""What stands against the options of ``harness stage``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.cli.stage import Asked


def check(args: argparse.Namespace, asked: Asked) -> None:
    """Holds that every option is of something that is brought.

    Raises:
        UsageError: one is not.
    """
    from harness.cli.common import is_spec
    from harness.errors import UsageError

    of_backbone = {"--from": args.given, "--digest": args.digest}
    of_data = {"--to": args.to, "--workers": args.workers if args.pack is None else None}
    for there, options, kind in (
        (asked.wanted, of_backbone, "a backbone that is fetched"),
        (asked.sets, of_data, "packed data"),
    ):
        given = [name for name, value in options.items() if value]
        if given and not there:
            raise UsageError(
                f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} of {kind}",
                got=args.what,
                action="leave it out, or name a spec that has it",
            )
    if args.digest and asked.of_run:
        raise UsageError(
            "the digest of what a run has learned is not that of a module that is fetched",
            got=f"--digest with {asked.of_run}",
            action=f"leave it out; `harness inspect {asked.of_run}` says it",
        )
    if args.given and len(asked.wanted) > 1:
        raise UsageError(
            "--from is of one module, and the spec has two that are fetched",
            got=", ".join(one.backbone.handle for one in asked.wanted),
            action="name the one that is meant: harness stage HANDLE --from FILE",
        )
    if args.only and not is_spec(Path(args.what)):
        raise UsageError(
            "--only is of a spec", got=args.what, action="leave it out: this is one thing alone"
        )
    _check_job(args, asked)


def _check_job(args: argparse.Namespace, asked: Asked) -> None:
    """Holds that a job is asked for where there is something to do in one."""
    from harness.cli.common_slurm import refuse_without_slurm
    from harness.errors import UsageError

    if not args.slurm:
        refuse_without_slurm(args, **{"--site": None})
    elif not asked.sets and not args.digest and args.pack is None:
        raise UsageError(
            "fetching a backbone is no job: compute nodes have no internet",
            got="--slurm",
            allowed="--slurm with --digest, --pack, or packed data",
            action="leave it out",
        )
    elif asked.sets and args.to is None and asked.stage in ("none", "scratch"):
        raise UsageError(
            "a job would copy to the scratch of its own node, where nobody looks later",
            got="--slurm without --to",
            action="name a folder with --to, or add --only backbone",
        )
