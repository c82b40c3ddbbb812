"""Packs examples into few large files that shared storage reads fast.

SRC is a folder with one folder for each class, a manifest (CSV or TSV), or a spec (YAML), of which
the training data are packed, or with --split its validation or test data: with its columns, its
root, and what it says is done about missing values.

The files are standard TFRecord of tf.Example, in a mixed order, with an index beside them.  What is
interrupted goes on where it was when the same command is given again; several processes, or the
jobs of an array, may each pack a part.  With --slurm the packing is a job, or with --jobs several,
whose needs are said by -o cluster.FIELD=VALUE.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.worker.pack import Packed
    from harness.worker.pack_source import PackSource

HELP = "pack pictures, texts or recordings into few large files"
_SAY = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json, add_override
    from harness.cli.common_slurm import add_slurm

    add = parser.add_argument
    add("source", metavar="SRC", type=Path, help="a folder per class, a manifest or a spec")
    add("folder", metavar="DST", type=Path, help="the packed set: a new folder, or an earlier one")
    add(
        "--shard-mb",
        metavar="MB",
        type=_number,
        default=64,
        help="about how large a file is (default 64)",
    )
    _add_content(parser)
    add(
        "--part",
        metavar="K/N",
        type=_part,
        help="pack the K-th of N parts only, as --part 1/4; the last to end writes the index",
    )
    add("--workers", metavar="N", type=_number, help="files written at a time (default: cores)")
    add(
        "--access",
        choices=("private", "group"),
        help="who may read it: you alone (default of a new folder), or the group of the folder too",
    )
    add("--verify", action="store_true", help="read all files again and check their checksums")
    add("--jobs", metavar="N", type=_number, help="with --slurm: jobs that share the work")
    add_override(parser, "field of cluster, with --slurm", "cluster.time=2:00:00")
    add_json(parser)
    add_slurm(parser)


def _add_content(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--medium",
        choices=("image", "text", "audio"),
        help="what the files are: pictures (default), texts (.txt) or recordings (.wav, .flac); a "
        "spec says it itself",
    )
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        default="train",
        help="which data of a spec (default train)",
    )
    parser.add_argument(
        "--resize",
        metavar="PX",
        type=_number,
        help="shrink larger pictures to this shorter side, and encode them again",
    )
    parser.add_argument(
        "--quality",
        metavar="Q",
        type=_quality,
        help="of a JPEG that --resize has shrunk, 1 to 100 (default 95)",
    )


def run(args: argparse.Namespace) -> int:
    from harness.cli.common import print_json
    from harness.cli.common_slurm import refuse_without_slurm

    source = _source(args)
    _check(args, source)
    if args.slurm:
        return _submit(args, source)
    refuse_without_slurm(args, **{"--jobs": args.jobs, "-o": args.overrides})
    done = _pack(args, source)
    if args.json:
        print_json(_facts(args, done, sensitive=source.sensitive))
    else:
        _tell(args, done, sensitive=source.sensitive)
    return 0


def pack_for(args: argparse.Namespace) -> tuple[dict[str, Any], Callable[[], None]]:
    """Packs as the arguments say that were read for this verb, for another verb.

    Returns:
        What was done, as plain JSON, and what tells it in words.
    """
    source = _source(args)
    _check(args, source)
    done = _pack(args, source)
    facts = _facts(args, done, sensitive=source.sensitive)
    return facts, lambda: _tell(args, done, sensitive=source.sensitive)


def _pack(args: argparse.Namespace, source: PackSource) -> Packed:
    import signal
    import sys

    from harness.data.pack_plan import PackOptions
    from harness.worker.pack import check_sums, pack_data

    # Ends as Ctrl-C does: the files that are being written are removed, the others stay.
    for asked in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(asked, _leave)
    part, parts = args.part or (0, 1)
    done = pack_data(
        source,
        args.folder,
        PackOptions(args.shard_mb << 20, args.resize, args.quality, source.held),
        part=part,
        parts=parts,
        workers=args.workers,
        access=args.access,
        say=lambda text: print(text, file=sys.stderr),
    )
    if args.verify and done.index is not None:
        check_sums(done.index)
    return done


def _source(args: argparse.Namespace) -> PackSource:
    from harness.cli.common import is_spec
    from harness.worker.pack_source import PackSource

    if not is_spec(args.source):
        return PackSource(args.source, args.medium, None, args.split)
    from harness.spec import load_spec

    return PackSource(args.source, args.medium, load_spec(str(args.source)).spec, args.split)


def _check(args: argparse.Namespace, source: PackSource) -> None:
    from harness.errors import UsageError

    if args.quality is not None and args.resize is None:
        raise UsageError(
            "--quality is of pictures that --resize shrinks",
            got=f"--quality {args.quality} alone",
            action="add --resize PX, or leave it out: pictures are packed as they are",
        )

    if args.resize is not None and source.held != "image":
        raise UsageError(
            "--resize shrinks pictures",
            got=f"--resize {args.resize} with examples that are {source.held}",
            action="leave it out: texts and recordings are packed as they are",
        )


def _leave(number: int, frame: object) -> None:
    import signal
    import sys

    # A job is asked again and again until it ends: once is enough.
    for asked in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(asked, signal.SIG_IGN)
    sys.exit(128 + number)


def _submit(args: argparse.Namespace, what: PackSource) -> int:
    from harness.cli.common_slurm import absolute, submit_job, typed
    from harness.errors import DataError, UsageError
    from harness.launch.verb_spec import VerbJob
    from harness.worker.pack import check_places

    if args.part is not None:
        raise UsageError(
            "--part is of one process", got="--part with --slurm", action="use --jobs N"
        )
    source, folder = absolute(args.source), absolute(args.folder)
    if not source.exists():
        raise DataError(
            f"{source} does not exist",
            allowed="a folder with a folder for each class, a manifest, or a spec",
            action="correct the path",
        )
    check_places(what, folder)
    job = VerbJob(
        "pack",
        (str(source), str(folder), *_words(args)),
        folder,
        (source, folder, *what.paths),
        folder,
        typed(),
        parts=args.jobs or 1,
        cpus=args.workers,
        workers=True,
    )
    return submit_job(args, job, args.overrides, what.cluster)


def _words(args: argparse.Namespace) -> list[str]:
    """The options of the job: those that are not of this machine."""
    words = ["--shard-mb", str(args.shard_mb)]
    words += ["--split", args.split] if args.split != "train" else []
    for option in ("medium", "resize", "quality", "access"):
        value = getattr(args, option)
        words += [f"--{option}", str(value)] if value is not None else []
    return words + (["--verify"] if args.verify else [])


def _facts(args: argparse.Namespace, done: Packed, *, sensitive: bool) -> dict[str, Any]:
    index = done.index
    facts: dict[str, Any] = {
        "written": done.written,
        "missing_shards": done.missing,
        "undecodable": len(done.undecodable) if sensitive else list(done.undecodable),
        "verified": args.verify and index is not None,
        "finished": index is not None,
    }
    if index is not None:
        facts |= {
            "folder": index.root,
            "examples": len(index),
            "shards": len(index.shards),
            "bytes": sum(shard.bytes for shard in index.shards),
            "counts": dict(zip(index.classes, index.counts, strict=True)),
            "digest": index.digest,
        }
    return facts


def _tell(args: argparse.Namespace, done: Packed, *, sensitive: bool) -> None:
    if done.undecodable:
        names = ", ".join(done.undecodable[:_SAY])
        more = len(done.undecodable) - _SAY
        rest = f" and {more} more" if more > 0 else ""
        print(f"{len(done.undecodable)} could not be decoded and are packed as they are", end="")
        print("" if sensitive else f": {names}{rest}")
    if done.index is None:
        print(f"packed {done.written} examples; {done.missing} files are still to come")
        if args.verify:
            print("nothing is verified before all are there")
        print("next: the same command with the other parts, or without --part for all that is left")
        return
    index = done.index
    size = sum(shard.bytes for shard in index.shards) / 1e6
    many = {"class": "classes", "labels": "labels", "numbers": "targets"}[index.learned]
    print(f"{args.folder}: {len(index)} examples of {len(index.classes)} {many}")
    print(f"  {len(index.shards)} files, {size:,.1f} MB{', verified' if args.verify else ''}")
    print(f"  {index.digest}")
    if not done.written:
        print("  nothing was left to do")


def _number(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, was {text!r}")
    return number


def _quality(text: str) -> int:
    number = _number(text)
    if number > 100:
        raise argparse.ArgumentTypeError(f"must be 1 to 100, was {text!r}")
    return number


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"must be K/N with 1 <= K <= N, as 1/4, was {text!r}")
    return int(part) - 1, int(parts)
