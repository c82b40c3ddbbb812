"""What the verbs share that look after jobs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.runs.paths import RunPaths

_QUEUE_S = 60
"""Seconds between two questions to SLURM where the run's site is not known any more."""


def add_no_scheduler(parser: argparse.ArgumentParser) -> None:
    """``--no-scheduler``."""
    parser.add_argument(
        "--no-scheduler",
        action="store_true",
        help="do not ask SLURM; say what the run's files say",
    )


def queue_s(paths: RunPaths) -> int:
    """How often SLURM may be asked: polling.queue_s of the site that the run was submitted to."""
    from harness.errors import SpecError
    from harness.runs.jobs import last_job
    from harness.spec.site import load_site

    job = last_job(paths)
    if job is None:
        return _QUEUE_S
    try:
        return load_site(job.site).polling.queue_s
    except SpecError:
        return _QUEUE_S  # its profile was renamed or lies on another machine; nothing hangs on it
