"""What data hold: classes and their balance, sizes, kinds, and what is broken; what a backbone is.

DATA is a folder with one folder for each class, a manifest (CSV or TSV), a packed set, or a spec
(YAML), whose training data are looked at.  A sample of the pictures is decoded, or of the texts
or recordings of a spec read; broken ones are named, and the exit code is 4 only if all are.  With
--augment, what a spec's augmentation does is drawn as a grid.  With --slurm it is a job, whose
needs are said by -o cluster.FIELD=VALUE.

DATA may also be the handle of a backbone (keras:NAME, a Hub address, the folder of a SavedModel):
what it takes and gives, its size and cost, and its blocks, which training.phases.N.unfreeze
counts.  --backbone describes that of a spec.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.spec import Resolved
    from harness.worker.inspect import Sample, Shown

HELP = "what data hold and what is broken; what augmentation makes of them; what a backbone is"

_SAMPLE, _GRID_ROWS, _COPIES = 200, 8, 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_override
    from harness.cli.common_slurm import add_slurm

    add = parser.add_argument
    add(
        "data",
        metavar="DATA",
        help="a folder per class, a manifest, a packed set, a spec, or a backbone's handle",
    )
    add("--backbone", action="store_true", help="describe the backbone of the spec DATA")
    add(
        "--image-size",
        metavar="PIXELS",
        type=_whole,
        help="try a backbone that takes any pictures on such ones (default 224)",
    )
    _add_which(parser)
    add("--seed", metavar="SEED", type=_whole, help="draws the sample (default 1)")
    add(
        "--augment",
        metavar="FILE.png",
        type=Path,
        help="write a grid: each row an example, then its augmented copies; DATA is a spec then",
    )
    add(
        "--copies",
        metavar="K",
        type=_whole,
        help=f"augmented copies of each, those of the epochs 0 to K-1 (default {_COPIES})",
    )
    add(
        "--show-sensitive",
        action="store_true",
        help="name files and write pictures even of data that the spec says are sensitive",
    )
    add_override(parser, "field of the spec", "data.augment.rotate_deg=20")
    add_json(parser)
    add_slurm(parser)


def _add_which(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--sample",
        metavar="N",
        type=_whole,
        help=f"pictures to decode, 0 for none (default {_SAMPLE}; with --augment the rows of the "
        f"grid, default {_GRID_ROWS})",
    )
    which.add_argument("--all", action="store_true", help="decode all pictures, on all cores")


def run(args: argparse.Namespace) -> int:
    from harness.cli.common_slurm import refuse_without_slurm

    if _of_backbone(args):
        from harness.cli.inspect_backbone import run_backbone

        return run_backbone(args)
    args.data = Path(args.data)
    args.seed = 1 if args.seed is None else args.seed
    if args.slurm:
        return _submit(args)
    refuse_without_slurm(args)
    _check(args)
    resolved = _spec(args)
    if args.augment is not None:
        assert resolved is not None, "_check has seen that it is a spec"
        return _augment(args, resolved)
    return _inspect(args, resolved)


def _of_backbone(args: argparse.Namespace) -> bool:
    """Whether a backbone is to be described.

    Raises:
        UsageError: --backbone or --image-size is given with what is neither spec nor backbone.
    """
    from harness.cli.common import is_spec
    from harness.errors import UsageError
    from harness.worker.inspect_backbone import is_backbone

    if is_backbone(args.data):
        return True
    if args.backbone and is_spec(Path(args.data)):
        return True
    if args.backbone or args.image_size is not None:
        raise UsageError(
            "--backbone and --image-size are of a backbone",
            got=args.data,
            allowed="a backbone's handle, or a spec with --backbone",
            action="leave them out",
        )
    return False


def _submit(args: argparse.Namespace) -> int:
    from harness.cli.common_slurm import absolute, submit_job, typed
    from harness.errors import DataError, UsageError
    from harness.launch.verb_spec import VerbJob

    if args.augment is not None:
        raise UsageError(
            "a grid of a few pictures is no work for a job",
            got="--augment with --slurm",
            action="leave out --slurm",
        )
    of_job = [one for one in args.overrides if one.startswith("cluster.")]
    args.overrides = [one for one in args.overrides if one not in of_job]
    _check(args)
    data = absolute(args.data)
    if not data.exists():
        raise DataError(f"{data} does not exist", action="correct the path")
    resolved, sees, cluster = _spec(args), [data], {}
    if resolved is not None:
        spec = resolved.spec
        sees = [Path(spec.data.train or data), data]
        cluster = {"site": spec.cluster.site, "account": spec.cluster.account}
    words = [str(data), "--seed", str(args.seed), *(["--all"] if args.all else [])]
    words += ["--sample", str(args.sample)] if args.sample is not None else []
    words += ["--show-sensitive"] if args.show_sensitive else []
    for one in args.overrides:
        words += ["-o", one]
    job = VerbJob("inspect", tuple(words), data, tuple(sees), None, typed())
    return submit_job(args, job, of_job, cluster)


def _inspect(args: argparse.Namespace, resolved: Resolved | None) -> int:
    from harness.cli.common import print_json
    from harness.cli.inspect_text import lines_of
    from harness.errors import ExitCode
    from harness.worker.inspect import inspect_folder, inspect_spec

    sample = _sample(args, _SAMPLE)
    if resolved is None:
        found = inspect_folder(args.data, sample, _say)
    else:
        found = inspect_spec(resolved, sample, _say, names=args.show_sensitive)
    if args.json:
        print_json(found.to_json())
    else:
        print("\n".join(lines_of(found)))
    unusable = found.looked is not None and found.looked.all_broken
    return ExitCode.DATA if unusable else ExitCode.DONE


def _augment(args: argparse.Namespace, resolved: Resolved) -> int:
    from harness.cli.common import print_json
    from harness.worker.inspect import show_augmented

    shown = show_augmented(
        resolved,
        args.augment,
        _sample(args, _GRID_ROWS),
        _COPIES if args.copies is None else args.copies,
        _say,
        sensitive=args.show_sensitive,
    )
    if args.json:
        print_json(_facts(shown))
    else:
        print(f"{shown.file}: as prepared, then as in the epochs 0 to {shown.epochs - 1}, of")
        for name in shown.names:
            print(f"  {name}")
        if shown.broken:
            print(f"{shown.broken} others that were drawn cannot be decoded")
    return 0


def _facts(shown: Shown) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(shown)


def _check(args: argparse.Namespace) -> None:
    from harness.cli.common import is_spec
    from harness.errors import UsageError

    if args.augment is None:
        if args.copies is not None:
            raise UsageError("--copies is of a grid", action="add --augment FILE.png")
    elif args.augment.suffix.lower() != ".png":
        raise UsageError(
            "the grid is a PNG", got=f"--augment {args.augment}", allowed="a name ending in .png"
        )
    elif args.all or args.sample == 0 or args.copies == 0:
        raise UsageError(
            "a grid shows a few pictures and copies of them",
            got="--all, --sample 0 or --copies 0 with --augment",
            allowed="--sample N and --copies K, 1 or more",
        )
    if is_spec(args.data):
        return
    given = {
        "--augment": args.augment is not None,
        "-o": bool(args.overrides),
        "--show-sensitive": args.show_sensitive,
    }
    asked = [name for name, is_given in given.items() if is_given]
    if asked:
        raise UsageError(
            f"{' and '.join(asked)} {'belongs' if len(asked) == 1 else 'belong'} to a spec",
            got=str(args.data),
            allowed="a spec, a file ending in .yaml or .yml",
            action="name the spec, or leave them out",
        )


def _spec(args: argparse.Namespace) -> Resolved | None:
    from harness.cli.common import is_spec

    if not is_spec(args.data):
        return None
    from harness.spec import load_spec

    return load_spec(str(args.data), overrides=args.overrides)


def _sample(args: argparse.Namespace, default: int) -> Sample:
    from harness.worker.inspect import Sample

    count = default if args.sample is None else args.sample
    return Sample(None if args.all else count, args.seed)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, was {text!r}")
    return int(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
