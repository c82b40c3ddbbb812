"""What the verbs share that may run as a job: ``--slurm`` and what belongs to it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.launch.verb_job import SubmittedVerb
    from harness.launch.verb_spec import VerbJob


def add_slurm(
    parser: argparse.ArgumentParser,
    site: str = "with --slurm: site profile, its name or YAML file",
) -> None:
    """``--slurm``, ``--site``, ``--runs-root``, ``--dry-run`` and ``--no-preflight``.

    Args:
        site: what ``--site`` is for; of a verb that needs it without a job too, something else.
    """
    from harness.cli.common import add_runs_root

    group = parser.add_argument_group("as a job")
    add = group.add_argument
    add("--slurm", action="store_true", help="submit it as a job that goes on when interrupted")
    add("--site", metavar="SITE", help=site)
    add(
        "--dry-run", action="store_true", help="with --slurm: print the batch script, write nothing"
    )
    add(
        "--no-preflight",
        action="store_true",
        help="with --slurm: do not ask the cluster first whether the job can run there",
    )
    add_runs_root(parser)


def refuse_without_slurm(args: argparse.Namespace, **more: Any) -> None:
    """Holds that what belongs to a job is not asked for without one.

    Args:
        more: further options and their values; what is None or empty was not given.

    Raises:
        UsageError: something is.
    """
    from harness.errors import UsageError

    own = {
        "--site": args.site,
        "--dry-run": args.dry_run,
        "--no-preflight": args.no_preflight,
        "--runs-root": args.runs_root,
        **more,
    }
    given = [name for name, value in own.items() if value]
    if given:
        raise UsageError(
            f"{' and '.join(given)} {'belongs' if len(given) == 1 else 'belong'} to a job",
            action="add --slurm, or leave it out",
        )


def submit_job(
    args: argparse.Namespace,
    job: VerbJob,
    overrides: list[str],
    cluster: dict[str, Any] | None = None,
) -> int:
    """Submits a verb, or prints its script, and says what was done."""
    from harness.cli.common import print_json
    from harness.launch.slurm import Slurm
    from harness.launch.verb_job import script_of, submit_verb
    from harness.launch.verb_spec import resolve_job
    from harness.runs.registry import runs_root

    resolved = resolve_job(job, overrides, args.site, cluster)
    root = runs_root(args.runs_root, resolved.user.runs_root)
    if args.dry_run:
        script = script_of(job, resolved, job.root(root), Slurm())
        if args.json:
            print_json({"script": script})
        else:
            print(script, end="")
        return 0
    done = submit_verb(job, resolved, root, check=not args.no_preflight)
    if args.json:
        print_json(done.to_json())
    else:
        _print(done)
    return 0


def typed() -> str:
    """The command as it was typed, with the folder that its paths start from."""
    import shlex

    here = shlex.quote(str(Path.cwd()))
    return f"cd {here} && {shlex.join(['harness', *sys.argv[1:]])}"


def absolute(path: Path) -> Path:
    """The path from the root on, with links kept: other nodes know those."""
    return Path.cwd() / path


def _print(done: SubmittedVerb) -> None:
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    if done.hidden:
        hidden = ", ".join(done.hidden)
        print(f"not let through: {hidden} (they would beat the script's options)", file=sys.stderr)
    if done.preflight_s is not None:
        print(f"preflight took {done.preflight_s:.1f} s", file=sys.stderr)
    array = f", an array of {done.job.tasks}" if done.job.tasks else ""
    print(f"job       {done.job.id}{array}")
    print(f"path      {done.paths.root}")
    for number, line in enumerate(done.next):
        print(f"{'' if number else 'next':<9} {line}")
