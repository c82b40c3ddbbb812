"""What a submitted job calls on every rank: one attempt of the run in a directory."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from harness.distribute.topology import Topology
from harness.errors import ExitCode, HarnessError, StoppedEarly
from harness.model.remote import OFFLINE
from harness.runs.attempts import newest_outcome
from harness.runs.paths import RunPaths
from harness.spec import load_user_config, spec_from_file_resolved
from harness.worker.attempt import run_attempt
from harness.worker.ranks import Ranks

LOCAL_REQUEUE = 144
"""Code at which submitit's controller of local jobs starts the ranks again (its
LOCAL_REQUEUE_RETURN_CODE; not imported, since tasks need nothing else of submitit here)."""


def carry_out(run_dir: str) -> int:
    """Trains the run in ``run_dir`` from where it stands.

    Returns:
        0 whenever the attempt has written how it ended: SLURM kills the other ranks of one that
        leaves with another code, perhaps inside a save.  Else, and where the ranks have not met,
        the code of what kept the attempt from beginning.
    """
    paths = RunPaths(Path(run_dir))
    if paths.cancelled.exists():  # between two starts of a local job, when nobody could hear it
        _say("harness: the run was cancelled; next: harness resume " + shlex.quote(run_dir))
        return 0
    # Submitting has fetched what is needed; who has internet there may set it to 0.
    os.environ.setdefault(OFFLINE, "1")
    ranks = Ranks(Topology.from_environment(os.environ), _say)
    before = newest_outcome(paths) if ranks.first else 0
    try:
        run_attempt(
            paths,
            load_user_config().trust,
            say=_say,
            owns_process=True,
            plain=True,
            code_of=lambda code: _code(paths, code),
            ranks=ranks,
        )
    except HarnessError as error:
        if isinstance(error.__cause__, Exception) and not isinstance(error.__cause__, OSError):
            traceback.print_exception(error.__cause__)  # the log is where --debug would be
        for problem in error.problems:
            # How it goes on is the batch script's to say.
            _say(f"harness: {problem.what if isinstance(error, StoppedEarly) else problem}")
        if ranks.topology.size > 1 and not ranks.members:
            # Nobody saves anything yet; and one that hangs before it gets here has to be killed.
            return int(error.exit_code)
        written = newest_outcome(paths) > before if ranks.first else _knows(ranks, error)
        return _code(paths, int(error.exit_code)) if written else int(error.exit_code)
    return 0


def _knows(ranks: Ranks, error: HarnessError) -> bool:
    """Whether rank 0 accounts for the error of this other rank; all ranks stop together."""
    return ranks.noted or isinstance(error, StoppedEarly)


def _code(paths: RunPaths, code: int, environment: Mapping[str, str] = os.environ) -> int:
    """Code of a rank whose attempt has written how it ended: 0, see :func:`carry_out`.

    But one that was asked to stop: a local job is started again by its code.
    """
    if code != ExitCode.STOPPED:
        return 0
    if environment.get("SUBMITIT_EXECUTOR") != "local" or paths.cancelled.exists():
        return 0
    spec = spec_from_file_resolved(paths.spec)
    return LOCAL_REQUEUE if spec.cluster.continue_by == "requeue" else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
