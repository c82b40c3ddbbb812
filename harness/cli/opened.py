"""Arguments and steps of the verbs that use what a run made."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.worker.load import LoadedRun


def add_run(parser: argparse.ArgumentParser) -> None:
    """RUN, ``--runs-root`` and ``--step``."""
    from harness.cli.common import add_runs_root

    parser.add_argument(
        "run", metavar="RUN", help="directory, id (or its beginning) or name of a run"
    )
    parser.add_argument("--step", type=int, help="weights of this checkpoint, not the best")
    add_runs_root(parser)


def open_run(args: argparse.Namespace) -> LoadedRun:
    """The run of the arguments that :func:`add_run` adds, with its weights loaded.

    Raises:
        UsageError: there is no such run, or it has no checkpoint yet.
        DataError, StorageError: see :func:`harness.worker.load.load_run`.
    """
    from harness.runs.registry import resolve_run, runs_root
    from harness.spec import load_user_config
    from harness.worker.load import load_run

    user = load_user_config()
    paths = resolve_run(args.run, runs_root(args.runs_root, user.runs_root))
    return load_run(paths, user.trust, step=args.step, say=_say)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
