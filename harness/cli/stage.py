"""Brings what a spec needs to where its runs look for it: its backbone, and packed data.

WHAT is a spec (YAML), a packed set, or the handle of a backbone.

A backbone from TensorFlow Hub, or the ImageNet weights of a Keras application, is fetched into the
cache that jobs share, so that compute nodes need no internet; `harness submit` does that by itself.
Without internet, --from takes the file that its address gives.  An archive (hub:PATH.tar.gz) is
unpacked into the same cache.

Packed sets are copied to this node's scratch, or to a folder.  A run with `cluster.stage: scratch`,
or with the folder of --to, finds the copies and copies nothing itself.  Each file is verified by
its SHA-256, those that are there already too; what was interrupted goes on with the files that are
missing.

With --slurm, what is more than fetching (--digest, --pack, copying) is a job.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.cli.stage_backbone import Wanted
    from harness.worker.stage import Staged

HELP = "fetch a spec's backbone, copy its packed data to this node's scratch or to a folder"
_WORKERS = 4


@dataclass(frozen=True)
class Asked:
    """What is to be brought: sets by what names them, a backbone and what stands before it; where
    the spec has runs stage, the site's scratch variables, and where the spec's own jobs run."""

    sets: dict[str, Any]
    wanted: list[Wanted]
    stage: str = "none"
    variables: tuple[str, ...] = ()
    cluster: dict[str, str | None] | None = None
    of_run: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_override
    from harness.cli.common_slurm import add_slurm
    from harness.cli.stage_backbone import add_backbone_arguments
    from harness.cli.stage_pack import add_pack

    add = parser.add_argument
    add("what", metavar="WHAT", help="a spec, a packed set, or a handle (https://..., keras:NAME)")
    add(
        "--only",
        choices=("backbone", "data"),
        help="of a spec, bring one of them alone (default: whatever it names)",
    )
    add_backbone_arguments(parser)
    add_pack(parser)
    add(
        "--to",
        metavar="DIR",
        type=Path,
        help="where data go (default: cluster.stage of the spec, else the node's scratch)",
    )
    add(
        "--workers",
        metavar="N",
        type=_number,
        help=f"files copied at a time (default {_WORKERS})",
    )
    add_override(parser, "field of the spec", "data.train=packed/train")
    add_json(parser)
    add_slurm(parser, "site profile, its name or YAML file, which names the scratch variables")


def run(args: argparse.Namespace) -> int:
    import signal
    import sys

    from harness.cli.common import print_json
    from harness.cli.stage_backbone import facts, stage_it, tell
    from harness.cli.stage_check import check
    from harness.cli.stage_pack import check_pack, pack_here, submit_pack

    if args.pack is not None:
        check_pack(args)
    # Ends as Ctrl-C does: files that are being made are removed, the others stay.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    asked = _asked(args)
    check(args, asked)
    is_dry = args.slurm and args.dry_run
    staged = [] if is_dry else [stage_it(one, args) for one in asked.wanted]
    if not args.json:
        for module in staged:
            tell(module)
    if args.slurm:
        return submit_pack(args) if args.pack is not None else _submit(args, asked)
    packed, tell_packed = pack_here(args) if args.pack is not None else (None, None)
    place, done = _copy(args, asked)
    if args.json:
        more = {} if packed is None else {"packed": packed}
        modules = dict(zip(("backbone", "preprocessor"), map(facts, staged), strict=False))
        sets = [*map(_facts, done)]
        print_json({"place": place, "sets": sets, "backbone": None, **modules, **more})
        return 0
    if tell_packed is not None:
        tell_packed()
    for one in done:
        _tell(one)
    return 0


def _copy(args: argparse.Namespace, asked: Asked) -> tuple[Path | None, list[Staged]]:
    """Copies the sets; where to, and what was done."""
    import os
    import sys

    from harness.worker.stage import place_to, stage_sets

    if not asked.sets:
        return None, []
    place = place_to(args.to, asked.stage, asked.variables, os.environ)
    done = stage_sets(
        asked.sets,
        place,
        args.workers or _WORKERS,
        os.environ,
        lambda text: print(text, file=sys.stderr, flush=True),
    )
    return place.folder, done


def _asked(args: argparse.Namespace) -> Asked:
    from harness.cli.common import is_spec, usual_site
    from harness.cli.stage_backbone import is_handle, resolved_handle, wanted_of
    from harness.errors import UsageError
    from harness.worker.stage import open_data
    from harness.worker.stage_backbone import not_fetched

    if is_spec(Path(args.what)):
        return _of_spec(args)
    if args.overrides and not args.slurm:
        raise UsageError(
            "-o belongs to a spec",
            got=args.what,
            allowed="a spec, a file ending in .yaml or .yml",
            action="name the spec, or leave it out",
        )
    if is_handle(args.what):
        wanted = wanted_of(resolved_handle(args.what, args.site), alone=True)
        if not wanted:
            raise not_fetched(args.what)
        return Asked({}, wanted)
    variables = usual_site(args.site).scratch_variables
    return Asked({args.what: open_data(Path(args.what))}, [], variables=tuple(variables))


def _of_spec(args: argparse.Namespace) -> Asked:
    from harness.cli.stage_backbone import wanted_of
    from harness.spec import load_spec
    from harness.worker.stage import packed_of, sets_of
    from harness.worker.stage_backbone import not_fetched

    resolved = load_spec(args.what, overrides=args.overrides, site=args.site)
    spec = resolved.spec
    wanted = [] if args.only == "data" else wanted_of(resolved, alone=False)
    if args.only == "backbone" and not wanted:
        raise not_fetched(spec.backbone.handle)
    sets = {}
    if args.only != "backbone" and args.pack is None:  # without a backbone there must be sets
        sets = packed_of(spec) if wanted else sets_of(spec)
    cluster = {"site": spec.cluster.site, "account": spec.cluster.account}
    variables = tuple(resolved.site.scratch_variables)
    of_run = spec.backbone.handle if spec.backbone.handle.startswith("run:") else None
    return Asked(sets, wanted, spec.cluster.stage, variables, cluster, of_run)


def _submit(args: argparse.Namespace, asked: Asked) -> int:
    """What is left once the backbone is there, as a job."""
    from harness.cli.common import is_spec
    from harness.cli.common_slurm import absolute, submit_job, typed
    from harness.launch.verb_spec import VerbJob

    of_cluster = [one for one in args.overrides if one.startswith("cluster.")]
    path = Path(args.what) if not asked.wanted or is_spec(Path(args.what)) else None
    subject = absolute(path) if path is not None else _remote_path(asked)
    words = [str(subject) if path is not None else asked.wanted[0].remote.handle]
    words += ["--only", args.only] if args.only else []
    words += ["--digest"] if args.digest else []
    words += ["--to", str(absolute(args.to))] if args.to else []
    if args.site:
        site = Path(args.site)
        words += ["--site", str(absolute(site)) if site.is_file() else args.site]
    for one in args.overrides:
        words += ["-o", one]
    sees = [subject, *(one.root for one in asked.sets.values())]
    sees += [absolute(args.to)] if args.to else []
    job = VerbJob(
        "stage",
        tuple(words),
        subject,
        tuple(dict.fromkeys(sees)),
        None,
        typed(),
        cpus=args.workers,
        workers=bool(asked.sets),
    )
    return submit_job(args, job, of_cluster, asked.cluster)


def _remote_path(asked: Asked) -> Path:
    return asked.wanted[0].remote.path


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
